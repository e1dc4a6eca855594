package gocronlock

import (
	"context"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

func TestTheLockerConforms(t *testing.T) {
	etcdlocktest.TestLocker(t, func(_ *testing.T, s *etcdlock.Session) etcdlocktest.Locker {
		l := NewLocker(s, WithSplay(0))
		return etcdlocktest.Locker{TryLock: func(ctx context.Context, key string) (func(context.Context) error, error) {
			run, err := l.Lock(ctx, key)
			if err != nil {
				return nil, err
			}
			return run.Unlock, nil
		}}
	})
}
