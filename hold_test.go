package etcdlock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// traps A11, C5, C12: when another client ends a hold, the holder is notified with the reason. The next
// caller may hold by then, which doc.go excludes from the promises.
func TestAHolderIsToldSoonOfWhatAnAdministratorDid(t *testing.T) {
	for what, tc := range map[string]struct {
		does    func(w *world, s *Session, l *Lock)
		why     error
		whyNot  error
		newOne  bool // the session needs a new lease
		noLater time.Duration
	}{
		"lease revoked": {
			func(w *world, s *Session, _ *Lock) { w.RevokeLease(s.Lease()) }, ErrRevoked, ErrEvicted, true, 10 * time.Millisecond,
		},
		"key deleted": {
			func(w *world, _ *Session, l *Lock) { w.DeleteKey(l.Key()) }, ErrEvicted, ErrRevoked, false, 10 * time.Millisecond,
		},
		"key deleted and written again": {
			func(w *world, s *Session, l *Lock) {
				w.DeleteKey(l.Key())
				w.PutKey(l.Key(), "", s.Lease())
			}, ErrEvicted, ErrRevoked, false, 10 * time.Millisecond,
		},
		"key deleted, event lost": { // trap A21
			func(w *world, _ *Session, l *Lock) {
				w.MissDelete(l.Key())
				w.DeleteKey(l.Key())
			}, ErrEvicted, ErrRevoked, false, time.Minute,
		},
		"lease revoked, event lost": { // trap A21
			func(w *world, s *Session, l *Lock) {
				w.MissDelete(l.Key())
				w.RevokeLease(s.Lease())
			}, ErrRevoked, ErrEvicted, true, ttl,
		},
	} {
		for _, after := range []time.Duration{0, time.Second, time.Hour} {
			t.Run(what+" after "+after.String(), func(t *testing.T) {
				simulate(t, func(w *world) {
					s := w.session("a")
					l, lease := w.lock(NewMutex(s, "m")), s.Lease()
					w.pass(after)
					began := time.Now()
					tc.does(w, s, l)
					<-l.Done()
					require.LessOrEqual(w, time.Since(began), tc.noLater+settled(after))
					for _, err := range []error{context.Cause(l.Context()), l.Err(), l.Unlock(w.ctx)} {
						require.ErrorIs(w, err, ErrLost)
						require.ErrorIs(w, err, tc.why)
						require.NotErrorIs(w, err, tc.whyNot)
					}
					w.pass(2 * time.Second)
					require.Equal(w, tc.newOne, lease != s.Lease())
					require.Equal(w, StateConnected, s.State())
					require.NoError(w, w.lock(NewMutex(s, "m")).Unlock(w.ctx))
					w.allGone()
				})
			})
		}
	}
}

// The key is gone, and etcd does not answer in time whether the lease is gone too. The holder is not
// kept waiting for the answer.
func TestALossSaysThatEtcdHasNotToldItsReason(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.pass(time.Second)
		w.next("a", simetcd.LeaseTimeToLive, simetcd.Action{DelayReply: time.Second})
		began := time.Now()
		w.RevokeLease(s.Lease())
		<-l.Done()
		require.LessOrEqual(w, time.Since(began), 510*time.Millisecond)
		require.ErrorIs(w, l.Err(), ErrEvicted)
		require.ErrorContains(w, l.Err(), "or its lease was revoked: etcd has not answered in time which")
		w.pass(ttl)
		require.NoError(w, w.lock(NewMutex(s, "m")).Unlock(w.ctx))
		w.allGone()
	})
}

// settled is the time that a hold which began that long ago still goes unwatched: the
// watch is opened late, and etcd takes up to 100 ms for a watch on the past.
func settled(held time.Duration) time.Duration {
	if held == 0 {
		return 360 * time.Millisecond
	}
	return 0
}

// trap A9: Unlock notices a loss that was not noticed before.
func TestAnUnlockAfterAnEvictionSaysSo(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m"))
		w.DeleteKey(l.Key())
		err := l.Unlock(w.ctx)
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrEvicted)
		w.allGone()
	})
}

// trap A10: etcd deleted it, the answer was lost, and the second try finds nothing.
func TestAnUnlockThatHadToBeAskedForTwiceIsNoLoss(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m"))
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		require.NoError(w, l.Unlock(w.timeout(time.Minute)))
		w.empty("m")
	})
}

func TestAHoldHasTheValuesOfItsCallersContextAndNotItsEnd(t *testing.T) {
	simulate(t, func(w *world) {
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(w.ctx, key{}, "trace"))
		l, err := NewMutex(w.session("a"), "m").Lock(ctx)
		require.NoError(w, err)
		cancel()
		w.pass(time.Minute)
		require.NoError(w, l.Err())
		require.NoError(w, l.Context().Err())
		require.Equal(w, "trace", l.Context().Value(key{}))
		child, stop := context.WithCancel(l.Context())
		defer stop()
		require.NoError(w, l.Unlock(w.ctx))
		synctest.Wait()
		require.ErrorIs(w, child.Err(), context.Canceled)
		require.ErrorIs(w, context.Cause(child), ErrReleased, "children learn the cause")
	})
}

// The fence in etcd itself.
// A hold without a context ends for its own cause, and not for the cause of what its session did later
// with the key.
func TestAContextThatIsAskedForAfterTheEndTellsTheHoldsOwnCause(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m", WithRetention(time.Minute)))
		w.unlock(l.Unlock)
		require.NoError(w, s.Close(w.ctx))
		require.Equal(w, ErrReleased, l.Err())
		require.Equal(w, ErrReleased, context.Cause(l.Context()))
		require.ErrorIs(w, l.Context().Err(), context.Canceled)
	})
}

func TestAGuardHoldsForThisAcquisitionOnly(t *testing.T) {
	simulate(t, func(w *world) {
		m, c := NewMutex(w.session("a"), "m"), w.Client("x")
		write := func(l *Lock) bool {
			resp, err := c.Txn(w.ctx).If(l.Guard()).Then(clientv3.OpPut("data", "")).Commit()
			require.NoError(w, err)
			return resp.Succeeded
		}
		first := w.lock(m)
		require.True(w, write(first))
		require.NoError(w, first.Unlock(w.ctx))
		require.False(w, write(first))
		again := w.lock(m)
		require.Equal(w, first.Key(), again.Key())
		require.False(w, write(first), "the same key, and another acquisition")
		require.True(w, write(again))
	})
}

func TestDoUnlocksWhateverTheWorkDoes(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		failure := errors.New("the work failed")
		require.ErrorIs(w, m.Do(w.ctx, func(_ context.Context, l *Lock) error {
			require.NoError(w, l.Err())
			return failure
		}), failure)
		w.empty("m")

		require.PanicsWithValue(w, "boom", func() {
			_ = m.Do(w.ctx, func(context.Context, *Lock) error { panic("boom") })
		})
		w.pass(time.Second)
		w.empty("m")

		require.NoError(w, m.Do(w.ctx, func(_ context.Context, l *Lock) error { return l.Unlock(w.ctx) }), "the work may release")
		w.empty("m")

		ctx, cancel := context.WithCancel(w.ctx)
		err := m.Do(ctx, func(work context.Context, _ *Lock) error {
			cancel()
			<-work.Done()
			return context.Cause(work)
		})
		require.ErrorIs(w, err, context.Canceled, "the caller's context ends the work's")
		w.pass(time.Second)
		w.empty("m")
		w.allGone()
	})
}

func TestDoTellsThatTheLockWasLostUnderTheWork(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		require.NoError(w, m.Do(w.ctx, func(context.Context, *Lock) error { return nil }))
		err := m.Do(w.ctx, func(work context.Context, l *Lock) error {
			w.DeleteKey(l.Key())
			<-work.Done()
			require.ErrorIs(w, context.Cause(work), ErrEvicted)
			return nil // it thinks that it has succeeded
		})
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrEvicted)

		lost := errors.New("I noticed")
		err = m.Do(w.ctx, func(work context.Context, l *Lock) error {
			w.DeleteKey(l.Key())
			<-work.Done()
			return lost
		})
		require.ErrorIs(w, err, lost)
		require.ErrorIs(w, err, ErrEvicted)
		w.allGone()
	})
}

// A context that ends with the hold does not cut its release short, but what else
// bounds it still does.
func TestAReleaseUnderTheHoldsOwnContextKeepsToItsDeadline(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m"))
		w.Client("a").Cut()
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(w, l.Unlock(ctx), context.DeadlineExceeded)
		require.Equal(w, time.Second, time.Since(began))
		w.Client("a").Heal()

		l = w.lock(NewMutex(w.session("b"), "n"))
		require.NoError(w, l.Unlock(l.Context()), "as it says nothing else")
	})
}
