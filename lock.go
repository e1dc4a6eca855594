package etcdlock

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/local"
)

// Mutex is a lock that one holder at a time has, among all processes that use its name. It is only
// a name and a session and has no state of its own. It is cheap and safe for concurrent use, and
// each goroutine may make another one.
type Mutex struct {
	session *Session
	name    string
	asks    *local.Request
	invalid error // returned by every Lock; nil for a valid mutex
}

// Lock is one acquisition of a [Mutex].
type Lock struct{ hold }

// NewMutex names a mutex. It makes no request and returns no error. The first call reports a name
// that cannot be used.
//
// A name is not empty, does not end in a slash and has no empty part between slashes
// ([ErrInvalidName]). [WithForeignNames] is for fleets that have such names. Slashes group names
// ("orders/42"), but no name in use may lie inside another. A holder of "orders" and one of
// "orders/42" would take each other's keys for their own ([ErrNestedName]). Any other key in etcd
// that begins with the name and a slash is taken for a contender, so do not store other keys there.
func NewMutex(s *Session, name string, opts ...MutexOption) *Mutex {
	cfg := newMutexConfig(s, opts)
	return &Mutex{session: s, name: name, asks: cfg.exclusive()}
}

// Name returns the name that the mutex was made with.
func (m *Mutex) Name() string { return m.name }

// Lock waits in the queue until no older entry holds or waits, and returns the hold.
//
// It blocks until then, until ctx ends or until the session ends. While the session has no lease,
// Lock waits for one. The order is first come, first served: between sessions by etcd's revisions,
// and between the goroutines of one session by their calls.
//
// Lock fails at once with [ErrDeadlock] if ctx carries a hold of this name, as the context of
// [Held.Context] or of Do does, because it would wait for its own caller; see [WithReentry]. The
// hold is one of this session, or of another session of the same client, such as that of an
// [Election.Run] with a lease of its own. A goroutine that holds the lock and calls Lock with
// another context waits for itself.
//
// The caller holds nothing after an error and is not in the queue. Nothing of the call stays in
// etcd: a key that may exist is deleted in the background.
//
// Errors:
//   - the error of ctx; after a deadline that passed in the queue it is a [LockedError] too, which
//     names the entry that was in the way
//   - [ErrLost] and a reason, if the place in the queue was lost with its lease or its key
//   - [ErrSessionClosed]
//   - [ErrInvalidName]
//   - [ErrNestedName]
//   - [ErrDeadlock] and [ErrReentryLimit], see above
//   - an error with which etcd refuses the request, for example for lack of permission
func (m *Mutex) Lock(ctx context.Context) (*Lock, error) {
	h, err := m.acquire(ctx, false)
	if err != nil {
		return nil, opError("lock", m.name, err)
	}
	return &Lock{h}, nil
}

// TryLock is Lock without the wait in the queue. It returns [ErrLocked] at once when another entry
// holds or waits, in this session or in another. The error is a [LockedError], which names the
// holder. TryLock makes one request, which writes only if the lock is free. It makes none if
// another goroutine of this session is ahead. The error matches both ErrLocked and [ErrDeadlock]
// under the context of a hold of this name, unless the mutex has [WithReentry].
func (m *Mutex) TryLock(ctx context.Context) (*Lock, error) {
	h, err := m.acquire(ctx, true)
	if err != nil {
		return nil, opError("try to lock", m.name, err)
	}
	return &Lock{h}, nil
}

func (m *Mutex) acquire(ctx context.Context, try bool) (hold, error) {
	if m.invalid != nil {
		return hold{}, m.invalid
	}
	c := callOf(ctx, m.asks, try)
	return m.session.acquire(ctx, KindMutex, m.name, &c)
}

// Queue lists the holders and the waiters, in order, at one revision. The first entry holds, or is
// about to be granted. Queue blocks until etcd has answered, or ctx or the session ends.
func (m *Mutex) Queue(ctx context.Context) ([]QueueEntry, error) {
	return m.session.list(ctx, m.name)
}

// Unlock releases the lock. The hold ends in this process at once, whatever follows. Then Unlock
// blocks until etcd has confirmed that the next waiter may be admitted, or ctx ends. If ctx has ended
// already, as after SIGTERM, Unlock returns ErrUnconfirmed at once, and the session deletes the key
// in the background.
//
// Errors:
//   - [ErrUnconfirmed]: the lock was held until now and is released, but etcd has not confirmed
//     that the key is gone. The session continues to delete it in the background. The error also
//     matches the cause, such as the error of ctx. It takes precedence over ErrLost, which it may
//     match as well.
//   - [ErrLost] with its reason: the lock was lost before it was unlocked, so another session may
//     have held it meanwhile.
//   - [ErrReleased]: the lock was unlocked before.
//   - [ErrSessionClosed]: [Session.Close] has released the lock.
func (l *Lock) Unlock(ctx context.Context) error {
	return opError("unlock", l.Name(), l.release(ctx))
}

// Do locks, calls fn, and unlocks when fn has returned or panicked. The context that fn gets ends
// with ctx, and with the lock when the lock is lost.
//
// Do returns the error of Lock if that failed, else the error of fn. It is joined with [ErrLost] or
// [ErrSessionClosed] if the lock ended before fn had returned, because the work of fn may then not
// have been exclusive to its end. Do does not return [ErrUnconfirmed], because the work is done and
// was exclusive. Use Lock and Unlock to see that error.
func (m *Mutex) Do(ctx context.Context, fn func(ctx context.Context, lock *Lock) error) error {
	lock, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	return lock.do(ctx, lock.Unlock, func(ctx context.Context) error { return fn(ctx, lock) })
}

// Locker returns the mutex as a [sync.Locker], for code that asks for one. Such code sees neither a
// loss nor an error, so use Lock where you can.
//
// Its Lock waits for as long as it takes, also over losses of the lease. It panics if the mutex can
// never be locked: after the end of the session, with an unusable name, or without permission. Its
// Unlock returns without waiting for etcd. It logs the name of a lock that had been lost. Like the
// Unlock of a [sync.Mutex] it panics if the lock is not held.
func (m *Mutex) Locker() sync.Locker { return &locker{mutex: m} }

type locker struct {
	mutex *Mutex
	mu    sync.Mutex
	held  *Lock // guarded by mu
}

func (l *locker) Lock() {
	for {
		lock, err := l.mutex.Lock(context.Background())
		switch {
		case err == nil:
			l.mu.Lock()
			l.held = lock
			l.mu.Unlock()
			return
		case errors.Is(err, ErrLost) && !errors.Is(err, ErrSessionClosed):
			// The place in the queue is lost. Enter again.
		default:
			panic(err)
		}
	}
}

func (l *locker) Unlock() {
	l.mu.Lock()
	lock := l.held
	l.held = nil
	l.mu.Unlock()
	if lock == nil {
		panic(opError("unlock", l.mutex.name, errNotLocked))
	}
	if !lock.abandon() {
		l.mutex.session.etcd.Log.Error("a lock was lost before Unlock; another process may have worked at the same time",
			zap.String("name", l.mutex.name), zap.Error(lock.Err()))
	}
}

var errNotLocked = errors.New("this Locker does not hold the lock: call Lock first")
