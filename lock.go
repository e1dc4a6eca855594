package etcdlock

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/zap"
)

// Mutex is a lock that one holder at a time has, among all processes that use its
// name. It is only a name and a session: it has no state of its own, is cheap,
// safe for concurrent use, and each goroutine may make another.
type Mutex struct {
	session *Session
	name    string
	cfg     mutexConfig
	invalid error // why it can never be locked; nil if that is not known
}

// Lock is one acquisition of a [Mutex].
type Lock struct{ *hold }

// NewMutex names a mutex. It asks etcd for nothing, and reports no error: a name
// that cannot be used is told by the first call.
//
// A name is not empty, does not end in a slash and has no empty part between
// slashes ([ErrInvalidName]; see [WithForeignNames] for fleets that have such names).
// Slashes group names ("orders/42"), but no name in use may lie inside another: a
// holder of "orders" and one of "orders/42" would take each other's keys for their
// own ([ErrNestedName]). Whatever else in etcd begins
// with the name and a slash is taken for a contender, so keep the name's own part
// of the key space free.
func NewMutex(s *Session, name string, opts ...MutexOption) *Mutex {
	return &Mutex{session: s, name: name, cfg: newMutexConfig(s, opts)}
}

// Name is the name that the mutex was made with.
func (m *Mutex) Name() string { return m.name }

// Lock waits in line until nobody older holds or waits, and returns the hold.
//
// It blocks until then, until ctx ends or until the session does. The order is
// first come, first served: between sessions by etcd's revisions, and between the
// goroutines of one session by their calls. While the session has no lease it
// waits for one.
//
// A context that carries a hold of this name (that of [Held.Context], or of Do) makes the call
// fail at once with [ErrDeadlock], as it would wait for its own caller; see [WithReentry]. The
// hold is one by this session, or by another session of the same client, as that of an
// [Election.Run] with a lease of its own. A goroutine that holds the lock and calls Lock with
// another context waits for itself.
//
// After an error the caller holds nothing and is not in line, and nothing of the
// call stays in etcd: a key that may be there is deleted in the background.
// Errors: the context's, which after a deadline that passed in line is a [LockedError] too and
// names the entry that was in the way; [ErrLost] and a reason, when the place in the line was
// lost with its lease or its key; [ErrSessionClosed], [ErrInvalidName],
// [ErrNestedName]; [ErrDeadlock] and [ErrReentryLimit], see above; and what etcd refuses, as for
// want of permission.
func (m *Mutex) Lock(ctx context.Context) (*Lock, error) {
	h, err := m.acquire(ctx, false)
	if err != nil {
		return nil, opError("lock", m.name, err)
	}
	return &Lock{h}, nil
}

// TryLock is Lock without the wait in line: [ErrLocked] at once when anybody holds
// or waits, in this session or in another. The error is a [LockedError], which names
// the holder. It makes one request, which writes only
// if the lock is free; none if another goroutine of this session is ahead. Under the context of
// a hold of this name the error matches both ErrLocked and [ErrDeadlock], unless the mutex has
// [WithReentry].
func (m *Mutex) TryLock(ctx context.Context) (*Lock, error) {
	h, err := m.acquire(ctx, true)
	if err != nil {
		return nil, opError("try to lock", m.name, err)
	}
	return &Lock{h}, nil
}

func (m *Mutex) acquire(ctx context.Context, try bool) (*hold, error) {
	if m.invalid != nil {
		return nil, m.invalid
	}
	return m.session.acquire(ctx, m.name, m.cfg.exclusive(ctx, try))
}

// Unlock releases the lock. The hold is over here at once, whatever follows; then
// Unlock blocks until etcd confirmed that the next one may go in, or ctx ends.
//
// Errors:
//   - [ErrUnconfirmed]: released, and held until then, but etcd has not confirmed that the key is
//     gone. The session goes on deleting it in the background. The error tells why too, as the
//     error of ctx. This error counts before ErrLost, which it may match as well.
//   - [ErrLost] with its reason: the lock was lost before it was unlocked, so that another session
//     may have held it meanwhile.
//   - [ErrReleased]: it was unlocked before.
//   - [ErrSessionClosed]: [Session.Close] has released it.
func (l *Lock) Unlock(ctx context.Context) error {
	return opError("unlock", l.Name(), l.release(ctx))
}

// Do locks, calls fn, and unlocks when fn has returned or panicked. The context
// that fn gets ends with ctx, and with the lock when that is lost.
//
// The error is Lock's if that failed, else fn's; joined with [ErrLost] or
// [ErrSessionClosed] when the lock ended before fn had returned, so that what fn did
// may not have been exclusive to its end. That etcd has not confirmed the release is no
// error of Do: the work is done, and was exclusive. Lock and Unlock tell it, by
// [ErrUnconfirmed].
func (m *Mutex) Do(ctx context.Context, fn func(ctx context.Context, lock *Lock) error) error {
	lock, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	return lock.do(ctx, lock.Unlock, func(ctx context.Context) error { return fn(ctx, lock) })
}

// Locker returns the mutex as a [sync.Locker], for code that asks for one. Such
// code learns neither of a loss nor of an error, so use Lock where you can.
//
// Its Lock waits for as long as it takes, over losses of the lease too, and panics
// when the mutex can never be locked: a closed session, an unusable name, no
// permission. Its Unlock returns without waiting for etcd; a lock that had been lost
// is logged, by name; unlocking what is not locked panics, as it does for a
// [sync.Mutex].
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
			// The place in the line is lost; take another one.
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
		l.mutex.session.log.Error("a lock was lost before it was unlocked",
			zap.String("name", l.mutex.name), zap.Error(lock.Err()))
	}
}

var errNotLocked = errors.New("it is not locked through this Locker")
