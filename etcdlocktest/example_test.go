package etcdlocktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// report is the code under test.
func report(ctx context.Context, s *etcdlock.Session, write func(token int64) error) error {
	mutex := etcdlock.NewMutex(s, "report")
	return mutex.Do(ctx, func(_ context.Context, lock *etcdlock.Lock) error { return write(lock.Token()) })
}

// t is the test's; an example has none.
var t = &testing.T{}

// Two processes write under one lock. The test fails if both write at the same time.
func ExampleRun() {
	test := func(t *testing.T, etcd *etcdlocktest.Etcd) {
		store := etcd.Guarded("store")
		done := make(chan error)
		for _, name := range []string{"a", "b"} {
			session := etcd.Process(name).Session()
			go func() {
				done <- report(t.Context(), session, func(token int64) error {
					return store.Do(token, func() error { return nil })
				})
			}()
		}
		fmt.Println(<-done, <-done, len(store.Tokens()), "reports")
	}
	etcdlocktest.Run(t, test)
	// Output: <nil> <nil> 2 reports
}

// A process that is cut off loses its lock before another process gets it.
func ExampleProcess_Cut() {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a, b := etcd.Process("a").Session(), etcd.Process("b").Session()
		lock, err := etcdlock.NewMutex(a, "job").Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		etcd.Process("a").Cut()
		next, err := etcdlock.NewMutex(b, "job").Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(errors.Is(lock.Err(), etcdlock.ErrExpired), lock.Token() < next.Token())
		if err := next.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	// Output: true true
}

// A lock that is taken in the middle of the work.
func ExampleEtcd_Evict() {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		session := etcd.Process("a").Session()
		err := etcdlock.NewMutex(session, "job").Do(t.Context(), func(ctx context.Context, _ *etcdlock.Lock) error {
			etcd.Evict("job")
			<-ctx.Done()
			return context.Cause(ctx)
		})
		fmt.Println(errors.Is(err, etcdlock.ErrEvicted))
	})
	// Output: true
}

// The first write takes effect, and the process does not learn of it.
func ExampleEtcd_Intercept() {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		session := etcd.Process("a").Session()
		etcd.Intercept(func(r etcdlocktest.Request) etcdlocktest.Action {
			return etcdlocktest.Action{DropReply: r.Kind == etcdlocktest.KindWrite && r.N == 1}
		})
		start := time.Now()
		lock, err := etcdlock.NewMutex(session, "job").Lock(t.Context())
		fmt.Println(err, time.Since(start) > time.Second)
		if err := lock.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	// Output: <nil> true
}
