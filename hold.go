package etcdlock

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Hold is what a [Lock] and a [Term] have in common: one acquisition, from its
// grant to its end. It is safe for concurrent use, and can be released from any
// goroutine. A release of it never touches a later acquisition.
type Hold struct {
	name  string
	lease *lease.Lease
	entry *queue.Entry
	token int64

	ctx    context.Context // ends with the hold; a child of the lease's
	cancel context.CancelCauseFunc

	released atomic.Bool   // somebody called Unlock or Resign in time
	left     chan struct{} // closed when it is known what became of the key
	leftErr  error         // set before left is closed
}

// newHold begins a hold under a lease. values is the context that the acquisition
// was asked for with; only its values are used.
func newHold(values context.Context, name string, l *lease.Lease, e *queue.Entry, token int64) *Hold {
	h := &Hold{name: name, lease: l, entry: e, token: token, left: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(l.Context())
	h.ctx, h.cancel = &holdContext{Context: ctx, hold: h, values: values}, cancel
	return h
}

// holdContext ends with the hold, and has the values of the caller's context too.
type holdContext struct {
	context.Context
	hold   *Hold
	values context.Context
}

func (c *holdContext) Value(key any) any {
	if key == (waitKey{c.hold}) {
		return context.Background()
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// waitKey finds, in a context that ends with a hold, the one to wait under when that
// hold is released: its release must not be cut short by what itself brings about.
type waitKey struct{ hold *Hold }

// Context is cancelled when the hold ends: released, lost, or the session closed.
// [context.Cause] of it is then what Err says. Do under it whatever must not be
// done any more once somebody else may hold. It carries the values of the context
// that was given to Lock or Campaign, but not its cancellation.
//
// It is cancelled at Deadline at the latest, before anybody else can be granted,
// unless this process or its machine stands still at that time; see the package
// documentation for what protects then.
func (h *Hold) Context() context.Context { return h.ctx }

// Done is closed when the hold ends; it is the channel of Context.
func (h *Hold) Done() <-chan struct{} { return h.ctx.Done() }

// Err is nil while held. Afterwards it is [ErrReleased], or [ErrLost] together with
// the reason, or [ErrSessionClosed]. It looks at the clock itself, and so is right
// even when the process has just woken up and Context does not know yet.
func (h *Hold) Err() error {
	_ = h.lease.Err() // ends the lease, and so the hold, if its time is over
	if h.ctx.Err() == nil {
		return nil
	}
	return context.Cause(h.ctx)
}

// Token is the fencing token: a store revision of etcd, strictly larger than the
// token of every earlier holder of this name, other clients' included. Send it
// along with what is done under the lock, and let the resource refuse a token
// smaller than the largest that it has seen.
func (h *Hold) Token() int64 { return h.token }

// Deadline is the instant until which nobody else can hold, whatever happens, as
// far as this process knows without asking. Each answered renewal moves it. It is
// the zero time once the hold has ended.
func (h *Hold) Deadline() time.Time {
	if h.Err() != nil {
		return time.Time{}
	}
	return time.Now().Add(h.lease.Remaining())
}

// Guard is a comparison that holds in an etcd transaction only while this hold's
// key stands. A write to etcd under it is refused once the hold is over, however
// late it arrives.
func (h *Hold) Guard() clientv3.Cmp { return h.entry.Guard() }

// Key is the key in etcd by which it is held.
func (h *Hold) Key() string { return h.entry.Key }

// release ends the hold here at once, and waits until etcd confirmed that the key
// is gone, or ctx ends; the deletion goes on in the background until it is known
// or the lease is dead (traps A10, B4).
func (h *Hold) release(ctx context.Context) error {
	if wait, ok := ctx.Value(waitKey{h}).(context.Context); ok && ctx.Err() == nil {
		ctx = wait
	}
	if !h.giveBack() {
		return h.Err()
	}
	select {
	case <-h.left:
		return h.leftErr
	default:
	}
	select {
	case <-h.left:
		return h.leftErr
	case <-ctx.Done():
		return errors.Join(contextError(ctx), errUnconfirmed)
	}
}

var errUnconfirmed = errors.New("released, but etcd has not confirmed it: the key is being deleted in the background")

// giveBack ends the hold by its owner's wish. It is false when it had ended
// before, for whatever reason: of two releases, or of a release and a loss, one
// comes first, and the context's cause says which.
func (h *Hold) giveBack() bool {
	if h.Err() != nil || !h.released.CompareAndSwap(false, true) {
		return false
	}
	h.cancel(ErrReleased)
	return errors.Is(context.Cause(h.ctx), ErrReleased)
}

// end ends the hold for a cause.
func (h *Hold) end(cause error) { h.cancel(cause) }

// settle tells what became of the key, once the hold has ended.
func (h *Hold) settle(err error) {
	h.leftErr = err
	close(h.left)
}

// within returns a context that ends with ctx or with the hold.
func (h *Hold) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, waitKey{h}, ctx))
	stop := context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
