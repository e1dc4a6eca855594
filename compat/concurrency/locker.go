package concurrency

import (
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// NewLocker creates a [sync.Locker] backed by a [Mutex].
//
// Lock panics, with the name and the reason, if it cannot acquire the lock, above all after the end of
// the session. Unlock panics if the Locker is not locked. Unlock logs a lock that was lost. If etcd
// does not confirm the release, Unlock continues in the background, whereas etcd's package panics.
func NewLocker(s *Session, pfx string) sync.Locker { return &locker{NewMutex(s, pfx)} }

type locker struct{ mutex *Mutex }

func (l *locker) Lock() {
	if err := l.mutex.Lock(l.mutex.session.client.Ctx()); err != nil {
		panic(fmt.Errorf("lock %s: %w", wire.Quote(l.mutex.name), err))
	}
}

func (l *locker) Unlock() {
	s := l.mutex.session
	switch err := l.mutex.Unlock(s.client.Ctx()); {
	case errors.Is(err, ErrLockReleased):
		panic(fmt.Errorf("unlock %s: %w", wire.Quote(l.mutex.name), err))
	case errors.Is(err, etcdlock.ErrLost) && !errors.Is(err, etcdlock.ErrUnconfirmed):
		s.client.GetLogger().Error("a lock was lost before Unlock; another process may have worked at the same time", zap.String("name", l.mutex.name), zap.Error(err))
	case err != nil:
		s.client.GetLogger().Warn("etcd has not confirmed an Unlock; the key is deleted in the background", zap.String("name", l.mutex.name), zap.Error(err))
	}
}
