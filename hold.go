package etcdlock

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
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

	held() *local.Hold
}

// HoldOf returns the innermost hold that a context carries, as the context of [Held.Context] does, that
// of Do, and that of the function of [Election.Run]. It is for functions that are called somewhere under
// a lock, and that need its token or want to know whether it is still held. ok is false if the context
// carries no hold. A hold that has ended is returned too, and its Err says so.
//
// The result is of a type of its own and has the methods of Held alone, so it can be neither released
// nor converted to a [Lock].
func HoldOf(ctx context.Context) (h Held, ok bool) {
	of := local.CarriedBy(ctx).Hold()
	if of == nil {
		return nil, false
	}
	return carried{of}, true
}

// carried is a hold that a context carries.
type carried struct{ of *local.Hold }

func (c carried) Context() context.Context { return c.of.Context() }
func (c carried) Done() <-chan struct{}    { return c.of.Context().Done() }
func (c carried) Err() error               { return c.of.Err() }
func (c carried) Token() int64             { return c.of.Token() }
func (c carried) Deadline() time.Time      { return deadline(c.of) }
func (c carried) held() *local.Hold        { return c.of }

// hold is what the handles embed. Its exported methods are theirs. of is nil in the zero value of a
// handle: methods that return an error or a context report that, by Err and Context.
type hold struct {
	of     *lockmgr.Hold
	traced *tracedHold // nil without a Trace
}

// endedForNoHold is the context of the zero value of a handle.
var endedForNoHold = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNoHold)
	return ctx
}()

// Context returns a context that is cancelled when the hold ends: when it is released or lost, or
// when the session is closed. Its [context.Cause] is then the error of Err. Use it for all work
// that must stop before another session may hold. It carries the values of the context that was
// given to Lock or Campaign, but not its cancellation.
//
// It also carries the hold. A call that locks the same name under it fails at once with
// [ErrDeadlock], see [Mutex.Lock] and [WithReentry].
//
// It is cancelled at Deadline at the latest, before any other session can be granted, unless this
// process or its machine is paused at that time. The package documentation says what protects in
// that case.
func (h hold) Context() context.Context {
	if h.of == nil {
		return endedForNoHold
	}
	return h.of.Context()
}

// Done returns a channel that is closed when the hold ends. It is the channel of Context.
func (h hold) Done() <-chan struct{} { return h.Context().Done() }

// Err returns nil while held. Afterwards it returns [ErrReleased], or [ErrLost] together with the
// reason, or [ErrSessionClosed]. It looks at the clock itself, and is therefore right even if the
// process has just woken up and Context has not ended yet.
func (h hold) Err() error {
	if h.of == nil {
		return errNoHold
	}
	return h.of.Err()
}

// Token returns the fencing token. It is a store revision of etcd, strictly larger than the token
// of every earlier holder of this name, including holders that use other clients. Send it with
// every write under the lock, and let the resource refuse a token smaller than the largest that it
// has seen.
//
// Goroutines of one session that hand the lock over among themselves, see [WithTimeSlice], share a
// token. The token fences between processes.
func (h hold) Token() int64 {
	if h.of == nil {
		return 0
	}
	return h.of.Token()
}

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
func (h hold) CreateRevision() int64 {
	if h.of == nil {
		return 0
	}
	return h.of.Entry().CreateRevision
}

// Deadline returns the instant until which no other session can hold, whatever happens, as far as
// this process knows without a request. Each answered renewal moves it. It is the zero time once
// the hold has ended. It carries a monotonic reading, which may stand still while the machine
// sleeps: call it again after a pause, or call Err.
func (h hold) Deadline() time.Time {
	if h.of == nil {
		return time.Time{}
	}
	return deadline(&h.of.Hold)
}

func deadline(of *local.Hold) time.Time {
	if of.Err() != nil {
		return time.Time{}
	}
	return time.Now().Add(of.Remaining())
}

// Guard returns a comparison that holds in an etcd transaction only while the key of this hold
// exists. A write to etcd under it is refused once the key is gone, however late the write arrives.
// Holds of one session that hand over in memory, or share a key, have the same Guard. The Guard of
// a write lock stays true while the lock continues as a read lock, see [WriteLock.Downgrade].
func (h hold) Guard() clientv3.Cmp {
	if h.of == nil {
		return never
	}
	return h.of.Entry().Guard()
}

// never is a comparison that no state of etcd fulfils.
var never = clientv3.Compare(clientv3.CreateRevision("etcdlock"), "=", -1)

// Name returns the name that is held.
func (h hold) Name() string {
	if h.of == nil {
		return ""
	}
	return h.of.Name()
}

// Key returns the key in etcd by which the name is held.
func (h hold) Key() string {
	if h.of == nil {
		return ""
	}
	return h.of.Entry().Key
}

func (h hold) held() *local.Hold {
	if h.of == nil {
		return nil
	}
	return &h.of.Hold
}

// release ends the hold, and waits until etcd has confirmed what becomes of the key, or ctx ends.
func (h hold) release(ctx context.Context) error {
	if h.of == nil {
		return errNoHold
	}
	return h.releaseBy(func() error { return h.of.Release(ctx) })
}

// releaseBy releases by a function, and reports the release.
func (h hold) releaseBy(by func() error) error {
	if h.traced == nil {
		return by()
	}
	return h.traced.release(by)
}

// abandon is release for a caller that does not wait for etcd. It returns false if the hold had ended
// before.
func (h hold) abandon() (released bool) {
	_ = h.releaseBy(func() error {
		if released = h.of.Abandon(); !released {
			return h.Err()
		}
		return nil
	})
	return released
}

// do calls fn, and releases when fn has returned or panicked. The context that fn gets
// ends with ctx, and with the hold when that is lost.
func (h hold) do(ctx context.Context, release func(context.Context) error, fn func(context.Context) error) (err error) {
	work, stop := h.of.Within(ctx)
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
