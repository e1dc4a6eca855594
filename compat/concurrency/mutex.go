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

// Mutex is a lock among all sessions that use its prefix. It stands for at most one
// acquisition at a time; goroutines that share a Mutex take turns, but Unlock releases
// whatever it holds, so each had better make its own.
type Mutex struct {
	session *Session
	name    string
	inner   *etcdlock.Mutex

	mu   sync.Mutex
	held *etcdlock.Lock // nil while unlocked; guarded by mu
	used bool           // it was locked, or tried to be; guarded by mu
	hdr  *pb.ResponseHeader
}

// NewMutex names a mutex: its keys are pfx, a slash and the lease in hexadecimal, also
// when pfx ends in a slash itself. A prefix that cannot be used ([etcdlock.ErrInvalidName],
// [etcdlock.ErrNestedName]) is told by the first call.
func NewMutex(s *Session, pfx string) *Mutex {
	// Without a time slice every acquisition has a key of its own: IsOwner tells two of
	// one session apart, and the revision in Header grows from each to the next.
	inner := etcdlock.NewMutex(s.inner, pfx, etcdlock.WithTimeSlice(0))
	return &Mutex{session: s, name: pfx, inner: inner}
}

// TryLock locks the mutex if nobody holds or waits, else returns [ErrLocked] at once. It
// makes one request, which writes only if the lock is free.
//
// A session that holds the name itself gets ErrLocked too, unless it has [WithReentry];
// in etcd's package it succeeds.
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

// Lock waits in line until nobody older holds or waits. It blocks until then, until ctx
// ends, or the session does ([ErrSessionExpired]; at once, where etcd's package goes on
// waiting). After an error nothing is held, and nothing of the call stays in etcd.
//
// If the session holds the name already, through this Mutex or another one, Lock waits
// until that is unlocked: a goroutine that locks twice waits for itself. In etcd's package
// it returns nil, and two goroutines are inside. See [WithReentry].
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

// acquire notes what lock gets, or tells why it got nothing in the words of etcd's package.
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
	case err == nil: // under a later lease, which ends with the session in a moment
		return ErrSessionExpired
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() != nil, errors.Is(err, etcdlock.ErrLost), errors.Is(err, etcdlock.ErrSessionClosed):
		return ErrSessionExpired
	default:
		return err
	}
}

// warn tells, once, of what a program may hang on that was written for etcd's package.
func (s *Session) warn(name string) {
	s.warned.Do(func() {
		s.client.GetLogger().Warn("Lock waits for its own session, which holds the name already; "+
			"etcd's package would have let both in. If the caller is the holder, it waits for itself: see WithReentry",
			zap.String("name", name))
	})
}

// Unlock releases the lock. It is over here at once, also if ctx has ended; Unlock then
// blocks until etcd has confirmed that the next one may go in, or ctx ends: the key is
// deleted in the background in that case, and Unlock can be called again to wait for it.
//
// [ErrLockReleased]: it is not locked. [etcdlock.ErrLost] with its reason, and
// [ErrSessionExpired] if the session has ended: the lock was lost before, so that somebody
// else may have been inside; etcd's package returns nil then. Nil after Close of the
// session, which has released it.
func (m *Mutex) Unlock(ctx context.Context) error {
	m.mu.Lock()
	lock := m.held
	m.mu.Unlock()
	if lock == nil {
		return ErrLockReleased
	}
	err := lock.Unlock(ctx)
	m.session.locks.drop(m.name, lock) // it is over here, confirmed or not
	switch {
	case errors.Is(err, etcdlock.ErrReleased):
		// By an Unlock that was not answered, or through another Mutex.
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

// noKey is what a mutex has for a key that was locked and is not any more; there never is
// such a key.
const noKey = "\x00"

// IsOwner is a comparison that holds in a transaction only while this acquisition's key
// stands.
func (m *Mutex) IsOwner() v3.Cmp {
	if lock := m.Hold(); lock != nil {
		return lock.Guard()
	}
	return v3.Compare(v3.CreateRevision(m.Key()), "=", -1)
}

// Key is the key in etcd by which the lock is held. Without a lock it is empty at first,
// and a key that never exists afterwards.
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

// Header tells the revision of the last acquisition: one at which nobody older was left.
// It grows strictly from holder to holder, also in a fleet mixed with etcd's package, and
// so serves as a fencing token. The other fields of the header are not set. Nil before
// the first acquisition.
func (m *Mutex) Header() *pb.ResponseHeader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hdr
}

// Hold returns etcdlock's handle of the acquisition, nil while unlocked. The context of the
// handle ends when the lock is lost. Release it through Unlock. To lock the name again under
// this context fails with [etcdlock.ErrDeadlock]. Hold is not in etcd's package.
func (m *Mutex) Hold() *etcdlock.Lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}
