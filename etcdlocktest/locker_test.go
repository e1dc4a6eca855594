package etcdlocktest_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// newLocker is the shortest adapter: names are escaped, and locks are Mutexes.
func newLocker(_ *testing.T, s *etcdlock.Session) etcdlocktest.Locker {
	type lock = func(context.Context) (*etcdlock.Lock, error)
	take := func(of func(*etcdlock.Mutex) lock) func(context.Context, string) (func(context.Context) error, error) {
		return func(ctx context.Context, key string) (func(context.Context) error, error) {
			l, err := of(etcdlock.NewMutex(s, "adapter/"+url.QueryEscape(key)))(ctx)
			if err != nil {
				return nil, err
			}
			return l.Unlock, nil
		}
	}
	return etcdlocktest.Locker{
		Lock:    take(func(m *etcdlock.Mutex) lock { return m.Lock }),
		TryLock: take(func(m *etcdlock.Mutex) lock { return m.TryLock }),
	}
}

func TestAnAdapterThatDoesWhatItHasToConforms(t *testing.T) { etcdlocktest.TestLocker(t, newLocker) }

func TestAnAdapterThatDoesNotWaitConforms(t *testing.T) {
	etcdlocktest.TestLocker(t, func(t *testing.T, s *etcdlock.Session) etcdlocktest.Locker {
		return etcdlocktest.Locker{TryLock: newLocker(t, s).TryLock}
	})
}
