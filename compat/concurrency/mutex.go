package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// Mutex is a lock among all sessions that use its prefix. It has at most one acquisition at a time.
// Goroutines that share a Mutex take turns, but Unlock releases the acquisition of any of them, so
// each goroutine should create its own Mutex.
type Mutex struct {
	session *Session
	name    string
	inner   *etcdlock.Mutex

	mu   sync.Mutex
	held *etcdlock.Lock // nil while unlocked; guarded by mu
	used bool           // true after the first Lock or TryLock; guarded by mu
	hdr  *pb.ResponseHeader
}

// NewMutex creates a handle of a mutex. Its keys are pfx, a slash and the lease in hexadecimal, even if
// pfx ends in a slash. The first call returns an error for a prefix that cannot be used
// ([etcdlock.ErrInvalidName], [etcdlock.ErrNestedName]).
func NewMutex(s *Session, pfx string) *Mutex {
	// Without a time slice every acquisition has another key. IsOwner can thus distinguish two
	// acquisitions of one session, and the revision in Header grows from each to the next.
	inner := etcdlock.NewMutex(s.inner, pfx, etcdlock.WithTimeSlice(0))
	return &Mutex{session: s, name: pfx, inner: inner}
}

// TryLock locks the mutex if there is no holder and no waiter. Otherwise it returns [ErrLocked] at
// once. It makes one request, which writes only if the lock is free.
//
// If the session itself holds the name, TryLock also returns ErrLocked, unless the session has
// [WithReentry]. In etcd's package it succeeds.
func (m *Mutex) TryLock(ctx context.Context) error {
	err := m.acquire(ctx, func(ctx context.Context) (*etcdlock.Lock, error) {
		if lock, ok := live(&m.session.locks, m.name); ok && m.session.opts.reentry {
			return lock, nil
		}
		lock, err := m.inner.TryLock(ctx)
		if err == nil {
			m.session.locks.put(m.name, lock)
		}
		return lock, err
	})
	if errors.Is(err, etcdlock.ErrLocked) {
		return ErrLocked
	}
	return err
}

// Lock waits in the queue until no earlier entry holds or waits. It blocks until then, until ctx ends,
// or until the session ends ([ErrSessionExpired]). At the end of the session it returns at once,
// whereas etcd's package continues to wait. After an error nothing is held, and the call leaves nothing
// in etcd.
//
// If the session already holds the name, through this Mutex or another one, Lock waits for the Unlock.
// A goroutine that locks twice waits for itself. In etcd's package Lock returns nil, and two goroutines
// hold the lock at once. See [WithReentry].
func (m *Mutex) Lock(ctx context.Context) error {
	s := m.session
	return m.acquire(ctx, func(ctx context.Context) (*etcdlock.Lock, error) {
		if s.opts.reentry {
			lock, _, err := join(ctx, &s.locks, m.name, m.inner.Lock)
			return lock, err
		}
		if _, ok := live(&s.locks, m.name); ok {
			s.warn(m.name)
		}
		lock, err := m.inner.Lock(ctx)
		if err == nil {
			s.locks.put(m.name, lock)
		}
		return lock, err
	})
}

// acquire records the result of lock, or returns its error as an error of etcd's package.
func (m *Mutex) acquire(ctx context.Context, lock func(context.Context) (*etcdlock.Lock, error)) error {
	s := m.session
	wait, done := s.within(ctx)
	defer done()
	got, err := lock(wait)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = true
	switch {
	case err == nil && s.ownsHolds():
		m.held = got
		m.hdr = &pb.ResponseHeader{Revision: got.Token()}
		return nil
	case err == nil: // under a later lease, which soon ends with the session
		return ErrSessionExpired
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() != nil, errors.Is(err, etcdlock.ErrLost), errors.Is(err, etcdlock.ErrSessionClosed):
		return ErrSessionExpired
	default:
		return err
	}
}

// warn logs once a wait on which a program hangs that was written for etcd's package.
func (s *Session) warn(name string) {
	s.warned.Do(func() {
		s.client.GetLogger().Warn("Lock waits for another goroutine of its session, which holds the lock; "+
			"etcd's package would have admitted both. If the caller is the holder, it waits for itself: see WithReentry",
			zap.String("name", name))
	})
}

// Unlock releases the lock. In this process the hold ends at once, even if ctx has ended. Unlock then
// blocks until etcd has confirmed the deletion of the key, or ctx ends. After the end of ctx the key is
// deleted in the background, and Unlock can be called again to wait for the deletion.
//
// Errors:
//   - [ErrLockReleased] if the mutex is not locked
//   - [etcdlock.ErrLost] with its reason, and [ErrSessionExpired] if the session has ended: the lock was
//     lost before, and another session may have held it. etcd's package then returns nil.
//
// Unlock returns nil after Close of the session, which has released the lock.
func (m *Mutex) Unlock(ctx context.Context) error {
	m.mu.Lock()
	lock := m.held
	m.mu.Unlock()
	if lock == nil {
		return ErrLockReleased
	}
	err := lock.Unlock(ctx)
	m.session.locks.drop(m.name, lock) // the hold has ended here, confirmed or not
	switch {
	case errors.Is(err, etcdlock.ErrReleased):
		// An unanswered Unlock, or an Unlock of another Mutex, has released it.
		if err = m.session.deleteKey(ctx, lock.Guard(), lock.Key()); err != nil {
			return err
		}
	case closedByOwner(err):
		err = nil
	case errors.Is(err, etcdlock.ErrLost):
		if !errors.Is(err, etcdlock.ErrEvicted) {
			err = fmt.Errorf("%w: %w", ErrSessionExpired, err)
		}
	case err != nil:
		return err // it matches etcdlock.ErrUnconfirmed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == lock {
		m.held = nil
	}
	return err
}

// noKey is the key of a mutex that was locked before and is not locked now. Such a key never exists.
const noKey = "\x00"

// IsOwner returns a comparison that is true in a transaction only while the key of this acquisition
// exists.
func (m *Mutex) IsOwner() v3.Cmp {
	if lock := m.Hold(); lock != nil {
		return lock.Guard()
	}
	return v3.Compare(v3.CreateRevision(m.Key()), "=", -1)
}

// Key returns the key in etcd that holds the lock. Before the first Lock it is empty. After an Unlock it
// is a key that never exists.
func (m *Mutex) Key() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.held != nil:
		return m.held.Key()
	case m.used:
		return noKey
	default:
		return ""
	}
}

// Header has the revision of the last acquisition, at which no older entry remained. It grows strictly
// from holder to holder, also in a fleet that uses etcd's package too, so it can be a fencing token. The
// other fields of the header are not set. Header returns nil before the first acquisition.
func (m *Mutex) Header() *pb.ResponseHeader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hdr
}

// Hold returns etcdlock's handle of the acquisition. Its context ends when the lock is lost. Hold is nil
// while the mutex is not locked. Release the lock with Unlock. Locking the name again under the context
// of the handle returns [etcdlock.ErrDeadlock]. etcd's package has no Hold.
func (m *Mutex) Hold() *etcdlock.Lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}
