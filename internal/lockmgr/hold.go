package lockmgr

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Hold is one acquisition, from its grant to its end. The root documents its methods at the handles
// of the API.
type Hold struct {
	owned  *ownership
	holder *holder
	entry  *queue.Entry // of the name that it is a hold of
	token  int64
	values context.Context // that of the caller; only its values are used
	terms  Terms
	path   Path // set before the caller has the hold

	mu     lockorder.Hold
	err    error           // why it is over, once that is known
	ctx    context.Context // nil until first use; a child of the ownership's
	cancel context.CancelCauseFunc
	asked  any // the channel of Asked; nil until first use
}

// holdContext ends with the hold, and has the values of the caller's context too.
type holdContext struct {
	context.Context
	hold   *Hold
	values context.Context
}

func (c *holdContext) Value(key any) any {
	switch key {
	case waitKey{c.hold}:
		return context.Background()
	case carryKey{}:
		return &Carried{hold: c.hold, outer: CarriedBy(c.values)}
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// waitKey finds, in a context that ends with a hold, the context that a release of this hold waits
// under. The release ends the hold, and must not be cut short by that.
type waitKey struct{ hold *Hold }

// Context returns a context that ends with the hold, with the cause that Err returns. It carries the
// hold, and the values of the caller's context.
func (h *Hold) Context() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		parent := h.owned.life.Context()
		if h.err != nil {
			parent = context.WithoutCancel(parent) // which may have ended since, for another cause
		}
		ctx, cancel := context.WithCancelCause(parent)
		h.ctx, h.cancel = &holdContext{Context: ctx, hold: h, values: h.values}, cancel
		if h.err != nil {
			cancel(h.err)
		}
	}
	return h.ctx
}

// Err returns nil while held. It looks at the clock itself.
func (h *Hold) Err() error {
	_ = h.owned.lease.Err() // ends the lease, and so the hold, if its time is over
	return h.Ended()
}

// Ended is Err without the look at the clock.
func (h *Hold) Ended() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = h.owned.life.Cause()
	}
	return h.err
}

// Token returns the fencing token.
func (h *Hold) Token() int64 { return h.token }

// Entry returns the entry in etcd by which the name is held, or that of several names.
func (h *Hold) Entry() *queue.Entry { return h.entry }

// EntryOf returns the entry of one of the names that are held.
func (h *Hold) EntryOf(name string) *queue.Entry { return h.owned.entryOf(name) }

// Lease returns the lease of the hold.
func (h *Hold) Lease() *lease.Lease { return h.owned.lease }

// Remaining returns the time until the hold ends unless its lease is renewed before. After its end
// it is negative: how long ago that was.
func (h *Hold) Remaining() time.Duration { return h.owned.remaining() }

// Now is the time by the session's clock, or when the hold was lost if that was before.
func (h *Hold) Now() time.Duration {
	return h.owned.local.manager.cfg.Clock() + min(h.Remaining(), 0)
}

// Name returns the name that is held, or the first of several.
func (h *Hold) Name() string {
	l := h.owned.local
	if len(l.names) == 1 {
		return l.name
	}
	return l.names[slices.Index(h.owned.entry.Parts(), h.entry)]
}

// Rewrite changes the value of the key, and fails if the hold ends.
func (h *Hold) Rewrite(ctx context.Context, value string) error {
	ctx, stop := h.Within(ctx)
	defer stop()
	err := h.owned.queue.Rewrite(ctx, h.entry, value)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lockerr.ErrEvicted):
		h.owned.lose(h.owned.local.manager.whyGone(h.owned.lease, h.owned.entry)) // unless it had ended before
		return h.Err()
	case h.Err() != nil:
		return h.Err()
	case ctx.Err() != nil:
		return lockerr.OfContext(ctx)
	default:
		return err
	}
}

// Candidates lists the entries of the queue while the hold lasts.
func (h *Hold) Candidates(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	ctx, stop := h.Within(ctx)
	defer stop()
	return h.owned.local.single.AwaitList(ctx)
}

// Release ends the hold at once, and waits until it is decided what becomes of the key: handed on,
// or gone, as etcd has confirmed; or until ctx ends. The deletion then goes on in the background
// until it is known or the lease is dead (traps A10, B4).
func (h *Hold) Release(ctx context.Context) error {
	_, err := h.ReleaseTo(ctx, nil)
	return err
}

// ReleaseTo is Release that makes a candidate the successor, if it is not nil, by the request that
// deletes the key. handed is why the candidate is not the successor, or may not be, though the hold
// was released: ErrNotHanded, or what came of the request. While another hold within this one goes
// on, err is ErrHeldWithin, and this one goes on too.
func (h *Hold) ReleaseTo(ctx context.Context, successor *mvccpb.KeyValue) (handed, err error) {
	if wait, ok := ctx.Value(waitKey{h}).(context.Context); ok && ctx.Err() == nil {
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			wait, cancel = context.WithDeadline(wait, deadline)
			defer cancel()
		}
		ctx = wait
	}
	t := h.owned
	m := t.local.manager
	if successor != nil && !t.closeFor(h) {
		return nil, ErrHeldWithin
	}
	if !h.giveBack() {
		return nil, h.Err()
	}
	m.mu.Lock()
	last := t.release(h)
	m.mu.Unlock()
	if !last {
		return ErrNotHanded, nil // another caller of this session has it, or the key is kept
	}
	settled, handed := t.leaveAtOnce(ctx, successor)
	if settled == nil {
		return handed, nil
	}
	select {
	case <-settled:
		return handed, t.leftErr
	default:
	}
	select {
	case <-settled:
		return handed, t.leftErr
	case <-ctx.Done():
		return handed, notConfirmed(lockerr.OfContext(ctx))
	}
}

// Abandon is Release for a caller that does not wait. It returns false if the hold had ended before.
func (h *Hold) Abandon() (released bool) {
	if !h.giveBack() {
		return false
	}
	m := h.owned.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.owned.release(h) {
		h.owned.leave()
	}
	return true
}

// giveBack ends the hold for its caller. It returns false if the hold had ended before, for any
// reason: of two releases, or of a release and a loss, one comes first.
func (h *Hold) giveBack() bool {
	_ = h.owned.lease.Err() // see Err
	return h.end()
}

// end is giveBack after a look at the lease. It may be called with Manager.mu held.
func (h *Hold) end() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false
	}
	h.err = lockerr.ErrReleased
	if h.ctx != nil {
		h.cancel(lockerr.ErrReleased)
		h.err = context.Cause(h.ctx)
	} else if over := h.owned.life.Cause(); over != nil {
		h.err = over
	}
	return errors.Is(h.err, lockerr.ErrReleased)
}

// endedOr is why the hold has ended, or another error while it lasts.
func (h *Hold) endedOr(err error) error {
	if ended := h.Ended(); ended != nil {
		return ended
	}
	return err
}

// Within returns a context that ends with ctx or with the hold, and carries the hold.
func (h *Hold) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	carry := Carry(ctx, &Carried{hold: h, outer: CarriedBy(ctx)})
	ctx, cancel := context.WithCancelCause(context.WithValue(carry, waitKey{h}, ctx))
	own := h.Context()
	stop := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
