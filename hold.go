package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Held is one acquisition, from its grant to its end: a [Lock], a [WriteLock], a [ReadLock], a
// [Permit], a [Term] or a [LockSet]. A function that works under any of them takes a Held. It is
// safe for concurrent use, and can be released from any goroutine. A release never affects a later
// acquisition.
//
// All but LockSet have one name, and the further methods Name, Key, CreateRevision and Guard.
// LockSet has Names, Keys and Guards. Only this package implements Held, so it can get more methods
// in a later version.
type Held interface {
	// Context returns a context that ends when the hold does, with the cause that Err returns; see
	// [Lock.Context].
	Context() context.Context
	// Done returns a channel that is closed when the hold ends.
	Done() <-chan struct{}
	// Err returns nil while held; see [Lock.Err].
	Err() error
	// Token returns the fencing token; see [Lock.Token].
	Token() int64
	// Deadline returns the instant until which no other session can hold; see [Lock.Deadline].
	Deadline() time.Time

	held() *hold
}

// hold is what the handles embed. Its exported methods are theirs. It is nil in the zero value of a
// handle: what returns an error or a context tells that, by Err and Context.
type hold struct {
	tenure *ownership
	turn   *turn
	entry  *queue.Entry // of the name that it is a hold of
	token  int64
	values context.Context // that of the caller; only its values are used
	terms  terms

	mu     lockorder.Hold
	err    error           // why it is over, once that is known
	ctx    context.Context // nil until first use; a child of the ownership's
	cancel context.CancelCauseFunc
	asked  chan ReleaseRequest // nil until first use
}

// holdContext ends with the hold, and has the values of the caller's context too.
type holdContext struct {
	context.Context
	hold   *hold
	values context.Context
}

func (c *holdContext) Value(key any) any {
	switch key {
	case waitKey{c.hold}:
		return context.Background()
	case carryKey{}:
		return &carried{hold: c.hold, outer: carriedBy(c.values)}
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// endedForNoHold is the context of the zero value of a handle.
var endedForNoHold = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNoHold)
	return ctx
}()

// waitKey finds, in a context that ends with a hold, the one to wait under when that
// hold is released: its release must not be cut short by what itself brings about.
type waitKey struct{ hold *hold }

// Context returns a context that is cancelled when the hold ends: when it is released or lost, or
// when the session is closed. Its [context.Cause] is then the error of Err. Use it for all work
// that must stop before another session may hold. It carries the values of the context that was
// given to Lock or Campaign, but not its cancellation.
//
// It also carries the hold. A call that locks the same name under it fails at once with
// [ErrDeadlock], see [Mutex.Lock] and [WithReentry].
//
// It is cancelled at Deadline at the latest, before any other session can be granted, unless this
// process or its machine stands still at that time. The package documentation says what protects in
// that case.
func (h *hold) Context() context.Context {
	if h == nil {
		return endedForNoHold
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		parent := h.tenure.life.Context()
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

// Done returns a channel that is closed when the hold ends. It is the channel of Context.
func (h *hold) Done() <-chan struct{} { return h.Context().Done() }

// Err returns nil while held. Afterwards it returns [ErrReleased], or [ErrLost] together with the
// reason, or [ErrSessionClosed]. It looks at the clock itself, and is therefore right even if the
// process has just woken up and Context has not ended yet.
func (h *hold) Err() error {
	if h == nil {
		return errNoHold
	}
	_ = h.tenure.lease.Err() // ends the lease, and so the hold, if its time is over
	return h.over()
}

// over is Err without the look at the clock.
func (h *hold) over() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = h.tenure.life.Cause()
	}
	return h.err
}

// Token returns the fencing token. It is a store revision of etcd, strictly larger than the token
// of every earlier holder of this name, including holders that use other clients. Send it with
// every write under the lock, and let the resource refuse a token smaller than the largest that it
// has seen.
//
// Goroutines of one session that hand the lock over among themselves, see [WithTimeSlice], share a
// token. The token fences between processes.
func (h *hold) Token() int64 { return h.token }

// CreateRevision returns the revision at which the hold's key was created. It is the place of the
// hold in the queue, and it also grows strictly from holder to holder. It is smaller than Token
// after a wait.
//
// For a [Term] it is the number of the term, which all observers know as [Leader.CreateRevision].
// To find one term in the logs of several processes compare this number, and not Token, which only
// the leader knows.
//
// It is the fence for an election in which leaders on etcd's own package, or its election service,
// take part. Their Rev, and the revision of their Header, are those of the creation of their key.
// Such a leader can lead after this one and still have a smaller revision than the Token of this
// one. A mutex of etcd's own package has the revision of its turn, which is comparable with Token.
func (h *hold) CreateRevision() int64 { return h.tenure.entry.CreateRevision }

// Deadline returns the instant until which no other session can hold, whatever happens, as far as
// this process knows without a request. Each answered renewal moves it. It is the zero time once
// the hold has ended. It carries a monotonic reading, which may stand still while the machine
// sleeps: call it again after a pause, or call Err.
func (h *hold) Deadline() time.Time {
	if h.Err() != nil {
		return time.Time{}
	}
	return time.Now().Add(h.tenure.remaining())
}

// Guard returns a comparison that holds in an etcd transaction only while the key of this hold
// exists. A write to etcd under it is refused once the key is gone, however late the write arrives.
// Holds of one session that hand over in memory, or share a key, have the same Guard. The Guard of
// a write lock stays true while the lock continues as a read lock, see [WriteLock.Downgrade].
func (h *hold) Guard() clientv3.Cmp { return h.entry.Guard() }

// Name returns the name that is held.
func (h *hold) Name() string {
	if h == nil {
		return ""
	}
	l := h.tenure.line
	if len(l.names) == 1 {
		return l.name
	}
	return l.names[slices.Index(h.tenure.entry.Parts(), h.entry)]
}

// Key returns the key in etcd by which the name is held.
func (h *hold) Key() string { return h.entry.Key }

func (h *hold) held() *hold { return h }

// release ends the hold here at once, and waits until it is settled what becomes of
// the key: handed on, or gone, as etcd has confirmed; or until ctx ends. The deletion
// then goes on in the background until it is known or the lease is dead (traps A10,
// B4).
func (h *hold) release(ctx context.Context) error {
	_, err := h.releaseTo(ctx, nil)
	return err
}

// releaseTo is release that makes a candidate the successor, if it is not nil, by the request
// that deletes the key. handed is why the candidate is not the successor, or may not be, though
// the hold was released: errNotHanded, or what came of the request. While another hold within
// this one goes on err is errHeldWithin, and this one goes on, too.
func (h *hold) releaseTo(ctx context.Context, successor *mvccpb.KeyValue) (handed, err error) {
	if wait, ok := ctx.Value(waitKey{h}).(context.Context); ok && ctx.Err() == nil {
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			wait, cancel = context.WithDeadline(wait, deadline)
			defer cancel()
		}
		ctx = wait
	}
	if h == nil {
		return nil, errNoHold
	}
	t := h.tenure
	if successor != nil && !t.closeFor(h) {
		return nil, errHeldWithin
	}
	if !h.giveBack() {
		return nil, h.Err()
	}
	if !t.released(h) {
		return errNotHanded, nil // another caller of this session has it, or it is kept
	}
	confirmed, handed := t.leaveAtOnce(ctx, successor)
	if confirmed {
		return handed, nil
	}
	m := t.line.manager
	m.mu.Lock()
	settled := t.settled.Done()
	m.mu.Unlock()
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

// notConfirmed is the error of a release after which the key may stand, because of a cause. By
// some causes the key is known to be gone, and perhaps since before the release: that is a loss.
func notConfirmed(cause error) error {
	for _, gone := range []error{ErrEvicted, ErrRevoked, ErrRolledBack} {
		if errors.Is(cause, gone) {
			return cause
		}
	}
	return fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
}

// abandon is release for a caller that does not wait.
func (h *hold) abandon() (released bool) {
	if !h.giveBack() {
		return false
	}
	if h.tenure.released(h) {
		h.tenure.leave()
	}
	return true
}

// giveBack ends the hold by its owner's wish. It returns false if the hold had ended before, for any
// reason: of two releases, or of a release and a loss, one comes first.
func (h *hold) giveBack() bool {
	_ = h.tenure.lease.Err() // see Err
	return h.end()
}

// end is giveBack after a look at the lease. It may be called with manager.mu held.
func (h *hold) end() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false
	}
	h.err = ErrReleased
	if h.ctx != nil {
		h.cancel(ErrReleased)
		h.err = context.Cause(h.ctx)
	} else if over := h.tenure.life.Cause(); over != nil {
		h.err = over
	}
	return errors.Is(h.err, ErrReleased)
}

// within returns a context that ends with ctx or with the hold, and carries the hold.
func (h *hold) within(ctx context.Context) (context.Context, context.CancelFunc) {
	carry := context.WithValue(ctx, carryKey{}, &carried{hold: h, outer: carriedBy(ctx)})
	ctx, cancel := context.WithCancelCause(context.WithValue(carry, waitKey{h}, ctx))
	own := h.Context()
	stop := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// do calls fn, and releases when fn has returned or panicked. The context that fn gets
// ends with ctx, and with the hold when that is lost.
func (h *hold) do(ctx context.Context, release func(context.Context) error, fn func(context.Context) error) (err error) {
	work, stop := h.within(ctx)
	defer func() {
		stop()
		over := h.Err()
		rerr := release(ctx)
		if over != nil && !errors.Is(over, ErrReleased) || errors.Is(rerr, ErrLost) && !errors.Is(rerr, ErrUnconfirmed) {
			err = errors.Join(err, rerr)
		}
	}()
	return fn(work)
}
