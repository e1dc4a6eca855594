package etcdlocktest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/fence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve works under a lock, every minute.
func serve(ctx context.Context, s *etcdlock.Session, store *etcdlocktest.Guarded) {
	m := etcdlock.NewMutex(s, "billing")
	for ctx.Err() == nil {
		_ = m.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
			for ctx.Err() == nil {
				if err := store.Do(lock.Token(), func() error { return nil }); err != nil {
					return err
				}
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
				}
			}
			return nil
		})
	}
}

func TestAServiceMovesToAnotherProcess(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a, b := etcd.Process("a"), etcd.Process("b")
		store := etcd.Guarded("invoices")
		go serve(t.Context(), a.Session(), store)
		etcd.AwaitHeldBy("billing", "a")
		go serve(t.Context(), b.Session(), store)
		etcd.AwaitWaiting("billing", 1)
		for _, p := range []*etcdlocktest.Process{a, b} {
			start := time.Now()
			p.Cut()
			etcd.AwaitHeldBy("billing", map[*etcdlocktest.Process]string{a: "b", b: "a"}[p])
			require.Less(t, time.Since(start), 11*time.Second)
			p.Heal()
			etcd.AwaitWaiting("billing", 1)
		}
		time.Sleep(time.Hour)
		require.Greater(t, len(store.Tokens()), 60)
	})
}

// Each fault ends a hold with its reason, and the process that waits is next.
func TestFaultsEndAHold(t *testing.T) {
	type process = etcdlocktest.Process
	for what, tc := range map[string]struct {
		fault func(etcd *etcdlocktest.Etcd, a *process)
		err   error
	}{
		"cut":              {func(_ *etcdlocktest.Etcd, a *process) { a.Cut() }, etcdlock.ErrExpired},
		"requests are cut": {func(_ *etcdlocktest.Etcd, a *process) { a.CutRequests() }, etcdlock.ErrExpired},
		"renewals lost":    {func(_ *etcdlocktest.Etcd, a *process) { a.DropRenewals() }, etcdlock.ErrExpired},
		"asleep":           {func(_ *etcdlocktest.Etcd, a *process) { a.Sleep(time.Minute) }, etcdlock.ErrExpired},
		"expired":          {func(etcd *etcdlocktest.Etcd, _ *process) { etcd.Expire("job") }, etcdlock.ErrExpired},
		"revoked":          {func(etcd *etcdlocktest.Etcd, _ *process) { etcd.Revoke("job") }, etcdlock.ErrRevoked},
		"evicted":          {func(etcd *etcdlocktest.Etcd, _ *process) { etcd.Evict("job") }, etcdlock.ErrEvicted},
		"killed":           {func(_ *etcdlocktest.Etcd, a *process) { a.Kill() }, etcdlock.ErrClientClosed},
	} {
		t.Run(what, func(t *testing.T) {
			etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
				a, b := etcd.Process("a"), etcd.Process("b")
				first, err := etcdlock.NewMutex(a.Session(), "job").Lock(t.Context())
				require.NoError(t, err)
				next := make(chan *etcdlock.Lock)
				s := b.Session()
				go func() {
					l, err := etcdlock.NewMutex(s, "job").Lock(t.Context())
					if err != nil {
						t.Error(err)
					}
					next <- l
				}()
				etcd.AwaitWaiting("job", 1)
				require.Equal(t, "a", etcd.Holder("job"))
				tc.fault(etcd, a)
				second := <-next
				etcd.AwaitHeldBy("job", "b")
				<-first.Done()
				require.ErrorIs(t, first.Err(), tc.err)
				require.Greater(t, second.Token(), first.Token())
				require.NoError(t, second.Unlock(t.Context()))
				etcd.AwaitFree("job")
				require.Empty(t, etcd.Holder("job"))
			})
		})
	}
}

func TestFaultsThatAHoldSurvives(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a := etcd.Process("a")
		s := a.Session()
		a.LoseNextReply(etcdlocktest.KindWrite)
		lock, err := etcdlock.NewMutex(s, "job").Lock(t.Context())
		require.NoError(t, err)
		a.CutReplies()
		time.Sleep(3 * time.Second)
		a.Resume()
		a.SlowRenewals(time.Second)
		time.Sleep(time.Minute)
		a.Heal()
		a.Delay(200 * time.Millisecond)
		etcd.Compact()
		etcd.Stop()
		time.Sleep(5 * time.Second)
		require.Equal(t, "a", etcd.Holder("job"))
		etcd.Start()
		time.Sleep(time.Minute)
		etcd.Hang()
		time.Sleep(5 * time.Second)
		etcd.Resume()
		etcd.NewLeader()
		time.Sleep(time.Minute)
		require.NoError(t, lock.Err())
		require.NoError(t, lock.Unlock(t.Context()))
	})
}

func TestRequestsAreCountedAndIntercepted(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a := etcd.Process("a")
		s := a.Session()
		require.Equal(t, 1, a.Requests(etcdlocktest.KindGrant))
		refuse := true
		etcd.Intercept(func(r etcdlocktest.Request) etcdlocktest.Action {
			if r.Process == "a" && r.Kind == etcdlocktest.KindWrite && refuse {
				return etcdlocktest.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return etcdlocktest.Action{}
		})
		m := etcdlock.NewMutex(s, "job")
		_, err := m.TryLock(t.Context())
		require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
		refuse = false
		writes, all := a.Requests(etcdlocktest.KindWrite), a.Requests()
		lock, err := m.TryLock(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, a.Requests(etcdlocktest.KindWrite)-writes)
		require.Equal(t, 1, a.Requests()-all)
		etcd.Intercept(nil)
		require.NoError(t, lock.Unlock(t.Context()))
		require.Equal(t, "write", etcdlocktest.KindWrite.String())
	})
}

func TestAStrangerHoldsLeadsAndAsks(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		s := etcd.Process("a").Session()
		other := etcd.Occupy("job")
		_, err := etcdlock.NewMutex(s, "job").TryLock(t.Context())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		require.Equal(t, etcdlocktest.Stranger, etcd.Holder("job"))
		require.NoError(t, other.Unlock(t.Context()))

		term := etcd.Lead("scheduler", "host-z")
		leader, err := etcdlock.NewElection(s, "scheduler").Leader(t.Context())
		require.NoError(t, err)
		require.Equal(t, "host-z", leader.Value)
		require.NoError(t, term.Resign(t.Context()))

		lock, err := etcdlock.NewMutex(s, "job").Lock(t.Context())
		require.NoError(t, err)
		reason := make(chan string, 1)
		go func() {
			reason <- (<-lock.Asked()).Reason
			_ = lock.Unlock(t.Context())
		}()
		etcd.Ask("job", "maintenance")
		require.Equal(t, "maintenance", <-reason)
	})
}

// Locks of several names, of readers, and of etcd's own package are seen as well.
func TestWhoHoldsIsKnownForEachKindOfLock(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a, b := etcd.Process("a"), etcd.Process("b")
		set, err := etcdlock.NewMultiMutex(a.Session(), []string{"x", "y"}).Lock(t.Context())
		require.NoError(t, err)
		etcd.AwaitHeldBy("x", "a")
		etcd.AwaitHeldBy("y", "a")
		require.NoError(t, set.Unlock(t.Context()))

		for _, p := range []*etcdlocktest.Process{a, b} {
			read, err := etcdlock.NewRWMutex(p.Session(), "table").RLock(t.Context())
			require.NoError(t, err)
			defer func() { require.NoError(t, read.Unlock(t.Context())) }()
		}
		etcd.AwaitHeldBy("table", "a")
		etcd.AwaitHeldBy("table", "b")

		foreign, err := concurrency.NewSession(b.Client())
		require.NoError(t, err)
		m := concurrency.NewMutex(foreign, "job")
		require.NoError(t, m.Lock(t.Context()))
		etcd.AwaitHeldBy("job", "b")
		require.NoError(t, m.Unlock(t.Context()))
		require.NoError(t, foreign.Close())

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		s := a.Session()
		go func() {
			done <- etcdlock.NewElection(s, "scheduler").Run(ctx, "a", func(ctx context.Context, _ *etcdlock.Term) error {
				<-ctx.Done()
				return nil
			}, etcdlock.WithProgress(time.Hour)) // on a session of its own
		}()
		etcd.AwaitHeldBy("scheduler", "a")
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestAKilledProcessComesBackAsAnother(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		a := etcd.Process("a")
		require.Same(t, a, etcd.Process("a"))
		_, err := etcdlock.NewMutex(a.Session(), "job").Lock(t.Context())
		require.NoError(t, err)
		a.Kill()
		again := etcd.Process("a")
		require.NotSame(t, a, again)
		lock, err := etcdlock.NewMutex(again.Session(), "job").Lock(t.Context()) // once the lease has expired
		require.NoError(t, err)
		require.NoError(t, lock.Unlock(t.Context()))
	})
}

// A test with a bubble of its own, and one without.
func TestNewGoesByTheTimeOfItsTest(t *testing.T) {
	test := func(t *testing.T) {
		etcd := etcdlocktest.New(t, etcdlocktest.WithLatency(0, 0), etcdlocktest.WithSeed(7))
		lock, err := etcdlock.NewMutex(etcd.Process("a").Session(), "job").Lock(t.Context())
		require.NoError(t, err)
		etcd.AwaitHeldBy("job", "a")
		require.NoError(t, lock.Unlock(t.Context()))
		etcd.AwaitFree("job")
		etcd.NothingLeft()
	}
	t.Run("wall clock", test)
	t.Run("virtual time", func(t *testing.T) { synctest.Test(t, test) })
}

func TestTheShortestTTLIsThatOfTheOption(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		_, err := etcdlock.NewSession(t.Context(), etcd.Process("a").Client(), etcdlock.WithTTL(4*time.Second))
		require.ErrorIs(t, err, etcdlock.ErrInvalidTTL)
	}, etcdlocktest.WithMinTTL(5*time.Second))
}

func TestAGuardedResourceRefusesTokensOfEarlierHolders(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		store := etcd.Guarded("store")
		failed := errors.New("failed")
		require.NoError(t, store.Do(5, func() error { return nil }))
		require.ErrorIs(t, store.Do(5, func() error { return failed }), failed)
		require.NoError(t, store.Do(7, func() error { return nil }))
		err := store.Do(5, func() error { return nil })
		var stale *fence.Stale
		require.ErrorAs(t, err, &stale)
		require.Equal(t, fence.Stale{Resource: "store", Token: fence.Token{Value: 5}, Seen: fence.Token{Value: 7}}, *stale)
		leave, err := store.Enter(0)
		require.NoError(t, err, "a program without a fence")
		leave()
		require.Equal(t, []int64{5, 5, 7, 0}, store.Tokens())
	})
}
