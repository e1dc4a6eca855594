package billing

import (
	"context"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// guardedStore is a Store in which two processes must not be at the same time.
type guardedStore struct{ *etcdlocktest.Guarded }

func (s guardedStore) Write(_ context.Context, token int64) error {
	return s.Do(token, func() error { return nil })
}

// service is Run, or what stands in its place.
type service func(ctx context.Context, session *etcdlock.Session, store Store, interval time.Duration) error

// movesOver is the test. Two processes run the service, and the working one is cut off.
func movesOver(t testing.TB, etcd *etcdlocktest.Etcd, run service, ttl, interval time.Duration) {
	store := guardedStore{etcd.Guarded("invoices")}
	for _, name := range []string{"a", "b"} {
		session := etcd.Process(name).Session(etcdlock.WithTTL(ttl))
		go func() { _ = run(t.Context(), session, store, interval) }()
	}
	etcd.AwaitWaiting("billing", 1)
	first, next := "a", "b"
	if etcd.Holder("billing") == next {
		first, next = next, first
	}
	etcd.Process(first).Cut()
	etcd.AwaitHeldBy("billing", next)
	written := len(store.Tokens())
	time.Sleep(3 * interval)
	if len(store.Tokens()) == written {
		t.Errorf("%s holds the lock and writes no invoice", next)
	}
}

func TestAnotherProcessContinues(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		movesOver(t, etcd, Run, etcdlock.DefaultTTL, time.Minute)
	})
}

func TestAnotherProcessContinuesOnARealEtcd(t *testing.T) {
	movesOver(t, etcdlocktest.Real(t), Run, 2*time.Second, 100*time.Millisecond)
}
