package certmagiclock

import (
	"context"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

func TestTheLockerConforms(t *testing.T) {
	etcdlocktest.TestLocker(t, func(_ *testing.T, s *etcdlock.Session) etcdlocktest.Locker {
		l := New(s)
		unlock := func(key string) func(context.Context) error {
			return func(ctx context.Context) error { return l.Unlock(ctx, key) }
		}
		return etcdlocktest.Locker{
			Lock: func(ctx context.Context, key string) (func(context.Context) error, error) {
				return unlock(key), l.Lock(ctx, key)
			},
			TryLock: func(ctx context.Context, key string) (func(context.Context) error, error) {
				ok, err := l.TryLock(ctx, key)
				if err == nil && !ok {
					err = etcdlock.ErrLocked
				}
				return unlock(key), err
			},
		}
	})
}
