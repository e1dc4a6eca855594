package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Held is one acquisition, from its grant to its end: a [Lock], a [WriteLock], a [ReadLock], a
// [Permit], a [Term] or a [LockSet]. A function that works under any of them takes a Held. It is
// safe for concurrent use, and can be released from any goroutine. A release never touches a
// later acquisition.
//
// All but LockSet have one name, and the further methods Name, Key, CreateRevision and Guard.
// LockSet has Names, Keys and Guards. Only this package implements Held, so it can get more
// methods in a later version.
type Held interface {
	// Context ends when the hold does, with the cause that Err returns; see [Lock.Context].
	Context() context.Context
	// Done is closed when the hold ends.
	Done() <-chan struct{}
	// Err is nil while held; see [Lock.Err].
	Err() error
	// Token is the fencing token; see [Lock.Token].
	Token() int64
	// Deadline is the instant until which no other session can hold; see [Lock.Deadline].
	Deadline() time.Time

	held() *hold
}

// hold is what the handles embed. Its exported methods are theirs. It is nil in the zero value of a
// handle: what returns an error or a context tells that, by Err and Context.
type hold struct {
	tenure *tenure
	turn   *turn
	entry  *queue.Entry // of the name that it is a hold of
	token  int64
	values context.Context // that of the caller; only its values are used
	terms  terms

	mu     lockorder.Hold
	err    error           // why it is over, once that is known
	ctx    context.Context // made when somebody asks for it; a child of the tenure's
	cancel context.CancelCauseFunc
	asked  chan ReleaseRequest // made when somebody wants to listen
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

// Context is cancelled when the hold ends: released, lost, or the session closed.
// [context.Cause] of it is then what Err says. Do under it whatever must not be
// done any more once somebody else may hold. It carries the values of the context
// that was given to Lock or Campaign, but not its cancellation.
//
// It also carries the hold: a call that locks the same name under it fails at once with
// [ErrDeadlock], see [Mutex.Lock] and [WithReentry].
//
// It is cancelled at Deadline at the latest, before anybody else can be granted,
// unless this process or its machine stands still at that time; see the package
// documentation for what protects then.
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

// Done is closed when the hold ends; it is the channel of Context.
func (h *hold) Done() <-chan struct{} { return h.Context().Done() }

// Err is nil while held. Afterwards it is [ErrReleased], or [ErrLost] together with
// the reason, or [ErrSessionClosed]. It looks at the clock itself, and so is right
// even when the process has just woken up and Context does not know yet.
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

// Token is the fencing token: a store revision of etcd, strictly larger than the
// token of every earlier holder of this name, other clients' included. Send it
// along with what is done under the lock, and let the resource refuse a token
// smaller than the largest that it has seen.
//
// Goroutines of one session that hand the lock over among themselves, see
// [WithTimeSlice], share a token: the fence stands between processes.
func (h *hold) Token() int64 { return h.token }

// CreateRevision is the revision at which the hold's key was created: its place in the
// line, which grows strictly from holder to holder too. It is smaller than Token after
// a wait.
//
// Of a [Term] it is the number of the term: what [Leader.CreateRevision] tells all
// observers. To find one term in the logs of several processes compare this number, and not
// Token, which only the leader knows.
//
// It is the fence for an election in which leaders on etcd's own package, or its election
// service, take part: their Rev, and their Header's revision, are those of their key's
// creation, so that one who leads after us may well have a smaller one than our Token. A
// mutex of theirs has the revision of its turn, which is comparable with Token.
func (h *hold) CreateRevision() int64 { return h.tenure.entry.CreateRevision }

// Deadline is the instant until which nobody else can hold, whatever happens, as
// far as this process knows without asking. Each answered renewal moves it. It is
// the zero time once the hold has ended. It carries a monotonic reading, which may
// stand still while the machine sleeps: ask again after a pause, or ask Err.
func (h *hold) Deadline() time.Time {
	if h.Err() != nil {
		return time.Time{}
	}
	return time.Now().Add(h.tenure.remaining())
}

// Guard is a comparison that holds in an etcd transaction only while this hold's
// key stands. A write to etcd under it is refused once the key is gone, however late it
// arrives. Holds of one session that hand over in memory, or share a key, have the same
// Guard; and that of a write lock holds on while it goes on as a read lock, see
// [WriteLock.Downgrade].
func (h *hold) Guard() clientv3.Cmp { return h.entry.Guard() }

// Name is the name that is held.
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

// Key is the key in etcd by which it is held.
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
		return errNotHanded, nil // somebody else of this session has it, or it is kept
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
		return handed, notConfirmed(contextError(ctx))
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

// abandon is release for a caller who does not wait.
func (h *hold) abandon() (released bool) {
	if !h.giveBack() {
		return false
	}
	if h.tenure.released(h) {
		h.tenure.leave()
	}
	return true
}

// giveBack ends the hold by its owner's wish. It is false when it had ended
// before, for whatever reason: of two releases, or of a release and a loss, one
// comes first.
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
