// Package certmagiclock is the locking part of a certmagic Storage, on etcdlock: servers
// that share a storage obtain and renew each certificate once.
//
// Embed a [Locker] in a Storage that has the rest:
//
//	type Storage struct {
//		*certmagiclock.Locker
//		// and Store, Load, Delete, Exists, List, Stat
//	}
package certmagiclock

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// DefaultPrefix is the prefix of the names of locks in etcd without [WithPrefix]. No other keys may
// have this prefix, so a Storage that keeps its data in etcd needs another one.
const DefaultPrefix = "certmagic-locks"

// Locker is a [certmagic.Locker], a [certmagic.TryLocker] and a [certmagic.LockLeaseRenewer]. Its
// locks have the session's lease, which is renewed while the process runs. After a crash the locks are
// free within the session's TTL. It is safe for concurrent use.
type Locker struct {
	session *etcdlock.Session
	prefix  string
	log     *zap.Logger

	// Guarded by mu.
	mu          sync.Mutex
	held        map[string][]*etcdlock.Lock // by name, oldest first; Unlock was not called for them
	unconfirmed map[string]*etcdlock.Lock   // by name, released without an answer; the name was not locked since
}

var (
	_ certmagic.Locker           = (*Locker)(nil)
	_ certmagic.TryLocker        = (*Locker)(nil)
	_ certmagic.LockLeaseRenewer = (*Locker)(nil)
)

// Option changes what [New] does by default.
type Option func(*Locker)

// WithPrefix sets the prefix of the names of locks in etcd; see [DefaultPrefix].
func WithPrefix(prefix string) Option { return func(l *Locker) { l.prefix = prefix } }

// New creates a Locker. One session serves all locks of a process. Close it after certmagic has ended.
func New(session *etcdlock.Session, opts ...Option) *Locker {
	l := &Locker{
		session: session,
		prefix:  DefaultPrefix,
		log:     session.Client().GetLogger().Named("certmagiclock"),
		held:    make(map[string][]*etcdlock.Lock),

		unconfirmed: make(map[string]*etcdlock.Lock),
	}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// mutex is the lock of a name. A name may have slashes; escaped, none lies inside another.
func (l *Locker) mutex(name string) *etcdlock.Mutex {
	return etcdlock.NewMutex(l.session, l.prefix+"/"+url.PathEscape(name))
}

// Lock waits in the queue until no earlier goroutine, of this process or another, holds or waits. It
// blocks until then, or until ctx or the session ends. If the session loses its lease, Lock enters the
// queue again with the next lease.
func (l *Locker) Lock(ctx context.Context, name string) error {
	mutex := l.mutex(name)
	for {
		lock, err := mutex.Lock(ctx)
		switch {
		case err == nil:
			l.add(name, lock)
			return nil
		case !errors.Is(err, etcdlock.ErrLost) || errors.Is(err, etcdlock.ErrSessionClosed):
			return err
		}
	}
}

// TryLock is Lock without the wait. It returns false if there is a holder or a waiter. It makes one
// request.
func (l *Locker) TryLock(ctx context.Context, name string) (bool, error) {
	lock, err := l.mutex(name).TryLock(ctx)
	switch {
	case err == nil:
		l.add(name, lock)
		return true, nil
	case errors.Is(err, etcdlock.ErrLocked):
		return false, nil
	default:
		return false, err
	}
}

func (l *Locker) add(name string, lock *etcdlock.Lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = append(l.held[name], lock)
	delete(l.unconfirmed, name) // its key is gone, because the name could be locked
}

// ErrNotLocked is returned by Unlock and RenewLockLease for a name that is not locked by
// this process.
var ErrNotLocked = errors.New("not locked by this process")

// Unlock releases the lock of a name, even if ctx has ended. It blocks until etcd has confirmed the
// release, or ctx ends.
//
// After the error of ctx the name is no longer locked, and the key is deleted in the background.
// Until the next Lock, Unlock can be called again to wait for the deletion. An Unlock after the next
// Lock releases the new lock. Unlock returns no error for a lock that was lost, because certmagic
// treats a lost lock as released. It logs the loss.
func (l *Locker) Unlock(ctx context.Context, name string) error {
	lock, again := l.take(name)
	switch {
	case lock == nil:
		return fmt.Errorf("unlock %.200q: %w", name, ErrNotLocked)
	case again:
		_, err := l.session.Client().Txn(ctx).If(lock.Guard()).Then(clientv3.OpDelete(lock.Key())).Commit()
		if err != nil {
			return fmt.Errorf("unlock %q: %w", name, err)
		}
	default:
		err := lock.Unlock(ctx)
		unconfirmed := errors.Is(err, etcdlock.ErrUnconfirmed)
		switch {
		case errors.Is(err, etcdlock.ErrLost) && unconfirmed:
			// The lock was held until this Unlock, and its key is deleted with the lease.
		case errors.Is(err, etcdlock.ErrLost):
			l.log.Warn("a lock was lost before Unlock; another process may have done the same work",
				zap.String("name", name), zap.Error(err))
		case unconfirmed && !errors.Is(err, etcdlock.ErrSessionClosed):
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.held[name]) == 0 {
				l.unconfirmed[name] = lock
			}
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.unconfirmed, name)
	return nil
}

// take removes the lock that an Unlock releases from the held locks, so that one Unlock releases each
// lock, even if it fails. again is true for a lock with an unanswered earlier release. take returns
// nil if there is no such lock.
func (l *Locker) take(name string) (lock *etcdlock.Lock, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	locks := l.held[name]
	if len(locks) == 0 {
		lock = l.unconfirmed[name]
		return lock, lock != nil
	}
	// The oldest lock. If it was lost and another goroutine has acquired the lock since, either of the
	// two may be calling. The later lock is thus not released too early.
	if l.held[name] = locks[1:]; len(locks) == 1 {
		delete(l.held, name)
	}
	return locks[0], false
}

// RenewLockLease returns nil while the lock is held. certmagic calls it before every attempt of a long
// operation, and gives up the operation after an error. The error matches [etcdlock.ErrLost] or
// [ErrNotLocked]. leaseDuration is ignored, because the session renews its lease by itself.
func (l *Locker) RenewLockLease(_ context.Context, lockKey string, _ time.Duration) error {
	lock := l.Held(lockKey)
	if lock == nil {
		return fmt.Errorf("renew %.200q: %w", lockKey, ErrNotLocked)
	}
	if err := lock.Err(); err != nil {
		return fmt.Errorf("renew %.200q: %w", lockKey, err)
	}
	return nil
}

// Held returns the lock of a name that this process holds, or nil. A Storage fences its writes with
// the token of the lock, or in etcd with its guard.
func (l *Locker) Held(name string) *etcdlock.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if locks := l.held[name]; len(locks) > 0 {
		return locks[len(locks)-1]
	}
	return nil
}
