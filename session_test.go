package etcdlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// trap C1
func TestCreatingASessionWhileEtcdIsAwayEndsWithTheContext(t *testing.T) {
	for what, away := range map[string]func(w *world){
		"stopped":         func(w *world) { w.Stop() },
		"cut off":         func(w *world) { w.Client("a").Cut() },
		"answers are cut": func(w *world) { w.Client("a").CutReplies() },
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				away(w)
				began := time.Now()
				_, err := NewSession(w.timeout(3*time.Second), w.Client("a").Client)
				require.ErrorIs(w, err, context.DeadlineExceeded)
				require.Equal(w, 3*time.Second, time.Since(began))
				w.Start()
				w.Client("a").Heal()
				w.pass(DefaultTTL + time.Second)
				w.allGone()
			})
		})
	}
}

// trap C2
func TestTheCreationContextBoundsTheCreationOnly(t *testing.T) {
	simulate(t, func(w *world) {
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		s, err := NewSession(ctx, w.Client("a").Client, WithTTL(ttl))
		require.NoError(w, err)
		w.sessions = append(w.sessions, s)
		l := w.lock(NewMutex(s, "m"))
		cancel()
		w.pass(5 * time.Minute)
		require.NoError(w, s.Err())
		require.NoError(w, l.Err())
		require.Equal(w, StateConnected, s.State())
		require.NotNil(w, w.Get(l.Key()))
		w.allGone()
	})
}

// watchStates collects the states of a session; the test reads them after it has
// been closed.
func watchStates(w *world, s *Session) *pending[[]State] {
	return start(w, func(ctx context.Context) (all []State, _ error) {
		for state := range s.States(ctx) {
			all = append(all, state)
		}
		return all, nil
	})
}

// traps C5, C9
func TestASessionOutlivesItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		states := watchStates(w, s)
		m := NewMutex(s, "m")
		l, first := w.lock(m), s.Lease()
		w.pass(time.Second)

		w.Client("a").Cut()
		w.pass(7 * time.Second)
		require.Equal(w, StateSuspended, s.State())
		require.NoError(w, l.Err(), "held until the deadline")
		w.Client("a").Heal()
		w.pass(3 * time.Second)
		require.Equal(w, StateConnected, s.State())
		require.Equal(w, first, s.Lease())

		w.Client("a").Cut()
		<-l.Done()
		w.pass(time.Millisecond)
		require.Equal(w, StateLost, s.State())
		require.Equal(w, clientv3.NoLease, s.Lease())
		waiting := start(w, NewMutex(s, "other").Lock)
		w.pass(time.Minute)
		waiting.isWaiting()
		require.NoError(w, s.Err(), "a loss is not the end")
		require.Empty(w, w.Keys(""))

		w.Client("a").Heal()
		other := waiting.get()
		require.Equal(w, StateConnected, s.State())
		require.NotEqual(w, first, s.Lease())
		require.ErrorIs(w, l.Err(), ErrExpired, "what is lost stays lost")
		require.Nil(w, w.Get(l.Key()), "nothing is moved")
		require.Greater(w, w.lock(m).Token(), l.Token())

		require.True(w, w.RevokeLease(s.Lease()))
		<-other.Done()
		require.ErrorIs(w, other.Err(), ErrLost)
		require.ErrorIs(w, other.Err(), ErrRevoked)
		w.pass(time.Second)
		w.allGone()
		require.Equal(w, []State{StateConnected, StateSuspended, StateConnected, StateSuspended, StateLost, StateConnected, StateLost, StateConnected, StateClosed}, states.get())
		for state := range s.States(w.ctx) {
			require.Equal(w, StateClosed, state)
		}
	})
}

// trap C7
func TestADeadLeaseIsNotTakenOver(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a").Client
		_, err := NewSession(w.ctx, c, WithLease(0x1234))
		require.ErrorIs(w, err, ErrLeaseNotFound)
		require.ErrorContains(w, err, "1234")
		id := w.GrantLease(2 * time.Second)
		w.pass(3 * time.Second)
		_, err = NewSession(w.ctx, c, WithLease(id))
		require.ErrorIs(w, err, ErrLeaseNotFound)
	})
}

// trap C10: clientv3's own renewal streams require a leader.
func TestASessionRenewsOnThroughNewLeaders(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		id := s.Lease()
		for range 200 {
			w.NewLeader()
			w.pass(171 * time.Millisecond)
		}
		require.NoError(w, l.Err())
		require.Equal(w, id, s.Lease())
		w.Client("a").ResetCounts()
		w.pass(time.Minute)
		require.InDelta(w, 18, w.Client("a").Count(simetcd.LeaseKeepAlive), 2, "every third of the TTL")
		w.allGone()
	})
}

func TestCloseReleasesAllAndRevokesTheLeaseInOneRequest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l1, l2 := w.lock(NewMutex(s, "m")), w.lock(NewMutex(s, "n"))
		held := w.lock(NewMutex(w.session("b"), "o"))
		wait := start(w, NewMutex(s, "o").Lock)
		next := start(w, NewMutex(w.sessions[1], "m").Lock)
		w.pass(100 * time.Millisecond)

		require.Equal(w, "1 LeaseRevoke", requests(w.Client("a"), func() { require.NoError(w, s.Close(w.ctx)) }))
		for _, l := range []*Lock{l1, l2} {
			require.ErrorIs(w, l.Err(), ErrSessionClosed)
			require.NotErrorIs(w, l.Err(), ErrLost)
			require.ErrorIs(w, l.Unlock(w.ctx), ErrSessionClosed)
		}
		wait.fails(ErrSessionClosed)
		require.NoError(w, next.get().Unlock(w.ctx))
		<-s.Done()
		require.Equal(w, ErrSessionClosed, s.Err())
		require.Equal(w, StateClosed, s.State())
		require.Zero(w, s.Lease())

		m := NewMutex(s, "m")
		for what, err := range map[string]error{
			"Lock":    second(m.Lock(w.ctx)),
			"TryLock": second(m.TryLock(w.ctx)),
			"Queue":   second(m.Queue(w.ctx)),
			"Do":      m.Do(w.ctx, func(context.Context, *Lock) error { return nil }),
		} {
			require.ErrorIs(w, err, ErrSessionClosed, what)
		}
		require.NoError(w, s.Close(w.ctx), "a second time")
		require.ErrorIs(w, second(s.Orphan(w.ctx)), ErrSessionClosed)
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

func second[T any](_ T, err error) error { return err }

func TestASessionCanBeClosedByManyAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.lock(NewMutex(s, "m"))
		var closes []*pending[any]
		for range 5 {
			closes = append(closes, start(w, func(ctx context.Context) (any, error) { return nil, s.Close(ctx) }))
		}
		for _, c := range closes {
			c.get()
			require.Empty(w, w.Leases(), "none returns before it is done")
		}
	})
}

// trap C15
func TestCloseWhileEtcdIsAwayIsBounded(t *testing.T) {
	for what, tc := range map[string]struct {
		away    func(w *world)
		bound   time.Duration
		takes   time.Duration
		matches error
	}{
		"by the context, cut off":   {func(w *world) { w.Client("a").Cut() }, time.Second, time.Second, context.DeadlineExceeded},
		"by the context, stopped":   {func(w *world) { w.Stop() }, time.Second, time.Second, context.DeadlineExceeded},
		"by the lease, cut off":     {func(w *world) { w.Client("a").Cut() }, time.Hour, ttl, context.DeadlineExceeded},
		"by the lease, stopped":     {func(w *world) { w.Stop() }, time.Hour, ttl, context.DeadlineExceeded},
		"by a context that is over": {func(w *world) { w.Client("a").Cut() }, 0, time.Second, context.DeadlineExceeded},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				l := w.lock(NewMutex(s, "m"))
				w.pass(time.Second)
				tc.away(w)
				began := time.Now()
				err := s.Close(w.timeout(tc.bound))
				require.ErrorIs(w, err, tc.matches)
				require.LessOrEqual(w, time.Since(began), tc.takes)
				require.ErrorIs(w, l.Err(), ErrSessionClosed)
				w.Start()
				w.Client("a").Heal()
				w.pass(ttl + time.Second)
				w.allGone()
			})
		})
	}
}

// An entry that is being deleted must not be left to a successor, which does not know it: the entry
// would block others for as long as the successor lives.
func TestOrphanLeavesNothingButWhatIsHeld(t *testing.T) {
	simulate(t, func(w *world) {
		s, b := w.session("a"), w.session("b")
		held, gone := w.lock(NewMutex(s, "held")), w.lock(NewMutex(s, "gone"))
		kept := NewMutex(s, "kept", WithRetention(time.Hour))
		require.NoError(w, w.lock(kept).Unlock(w.ctx))
		taken := w.lock(NewMutex(b, "taken"))
		wait := start(w, NewMutex(s, "taken").Lock)
		w.pass(time.Second)

		w.Client("a").Cut()
		require.ErrorIs(w, gone.Unlock(w.timeout(time.Second)), context.DeadlineExceeded)
		require.ErrorIs(w, second(s.Orphan(w.timeout(time.Second))), context.DeadlineExceeded)
		wait.fails(ErrOrphaned)
		require.NoError(w, held.Err(), "the session goes on")
		require.NoError(w, s.Err())
		w.Client("a").Heal()

		successor := w.session("a2", WithLease(w.orphan(s)))
		require.Len(w, w.Keys("held/"), 1)
		for _, name := range []string{"gone", "kept"} {
			w.empty(name)
		}
		require.Len(w, w.Keys("taken/"), 1)
		require.NoError(w, taken.Unlock(w.ctx))
		require.NoError(w, w.lock(NewMutex(successor, "held")).Unlock(w.ctx))
		w.pass(2 * ttl)
		w.allGone()
	})
}

func TestASuccessorTakesOverWhatWasOrphaned(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		waitB := start(w, NewMutex(w.session("b"), "m").Lock)
		waitA := start(w, NewMutex(s, "m").Lock)
		w.pass(5 * time.Second)
		lease := s.Lease()
		var id clientv3.LeaseID
		require.Empty(w, requests(w.Client("a"), func() { id = w.orphan(s) }))
		require.Equal(w, lease, id)
		require.ErrorIs(w, l.Err(), ErrOrphaned)
		require.ErrorIs(w, l.Err(), ErrSessionClosed)
		require.ErrorIs(w, l.Unlock(w.ctx), ErrOrphaned)
		waitA.fails(ErrOrphaned, ErrSessionClosed)
		require.ErrorIs(w, s.Err(), ErrOrphaned)
		require.NotNil(w, w.Get(l.Key()))

		w.pass(5 * time.Second) // another process starts
		succ := w.session("a2", WithLease(id))
		require.Equal(w, id, succ.Lease())
		require.Equal(w, ttl, succ.TTL())
		l2 := w.lock(NewMutex(succ, "m"))
		require.Equal(w, l.Key(), l2.Key())
		require.Greater(w, l2.Token(), l.Token())
		w.pass(time.Minute)
		waitB.isWaiting()
		require.NoError(w, l2.Err())
		require.NoError(w, l2.Unlock(w.ctx))
		require.NoError(w, waitB.get().Unlock(w.ctx))
		w.allGone()
	})
}

// traps C5, A11
func TestAClosedClientEndsTheSession(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		held := w.lock(NewMutex(w.session("b"), "o"))
		wait := start(w, NewMutex(s, "o").Lock)
		w.pass(time.Second)
		require.NoError(w, w.Client("a").Close())
		<-l.Done()
		require.ErrorIs(w, l.Err(), ErrClientClosed)
		require.ErrorIs(w, l.Err(), ErrLost)
		wait.fails(ErrClientClosed, ErrSessionClosed)
		require.ErrorIs(w, s.Err(), ErrClientClosed)
		require.ErrorIs(w, s.Close(w.ctx), ErrClientClosed, "it could revoke nothing")
		require.NoError(w, held.Unlock(w.ctx))
		w.pass(ttl + time.Second)
		require.Empty(w, w.Keys(""))
		require.Len(w, w.Leases(), 1, "b's")
	})
}

// No busy loop: neither the renewals nor the grants nor the waits make more requests
// while etcd is away than a person would.
func TestAnOutageIsSatOutQuietly(t *testing.T) {
	refuse := func(kinds ...simetcd.Kind) func(w *world) {
		return func(w *world) { w.every("a", simetcd.Action{Err: unavailable}, kinds...) }
	}
	all := []simetcd.Kind{
		simetcd.Range, simetcd.Txn, simetcd.TxnReadOnly, simetcd.LeaseGrant, simetcd.LeaseKeepAlive, simetcd.LeaseRevoke, simetcd.Watch,
	}
	for what, away := range map[string]func(w *world){
		"cut off":               func(w *world) { w.Client("a").Cut() },
		"answers are cut":       func(w *world) { w.Client("a").CutReplies() },
		"stopped":               func(w *world) { w.Stop() },
		"everything is refused": refuse(all...),
		"renewals are refused":  refuse(simetcd.LeaseKeepAlive),
		"watches are refused":   refuse(simetcd.Watch),
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a", WithTTL(2*time.Second))
				held := w.lock(NewMutex(w.session("b"), "m"))
				w.lock(NewMutex(s, "held"))
				wait := start(w, NewMutex(s, "m").Lock)
				w.pass(time.Second)
				c := w.Client("a")
				away(w)
				c.ResetCounts()
				w.pass(5 * time.Minute)
				for kind := simetcd.Range; kind <= simetcd.WatchProgress; kind++ {
					require.LessOrEqual(w, c.Count(kind), 5*60*4, "%v", kind)
				}
				w.Intercept(nil)
				w.Start()
				c.Heal()
				require.Eventually(w, func() bool { synctest.Wait(); return s.State() == StateConnected }, 10*time.Second, 10*time.Millisecond)
				wait.cancel()
				_ = held.Unlock(w.ctx)
				w.pass(15 * time.Second)
				w.allGone()
			})
		})
	}
}

func TestNothingIsLoggedWhileAllIsWell(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.DebugLevel)
		s := w.session("a", WithLogger(zap.New(core)))
		other := NewMutex(w.session("b"), "m")
		for range 10 {
			l := w.lock(NewMutex(s, "m"))
			wait := start(w, other.Lock)
			w.pass(time.Minute)
			require.NoError(w, l.Unlock(w.ctx))
			require.NoError(w, wait.get().Unlock(w.ctx))
		}
		require.NoError(w, s.Close(w.ctx))
		require.Empty(w, logs.All())

		s = w.session("a", WithLogger(zap.New(core)))
		w.lock(NewMutex(s, "m"))
		w.RevokeLease(s.Lease())
		w.pass(time.Minute)
		require.Len(w, logs.FilterMessageSnippet("lease lost").FilterLevelExact(zapcore.WarnLevel).All(), 1)
		require.Len(w, logs.FilterMessageSnippet("new lease granted").All(), 1)
		require.Len(w, logs.All(), 2)
	})
}
