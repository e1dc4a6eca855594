package concurrency

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	etcd "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// traps C3, C4
func TestASessionIsOverBeforeAnybodyElseHolds(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m, next := NewMutex(s, "m"), NewMutex(w.session("b"), "m")
		require.NoError(w, m.Lock(w.ctx))
		waiting := w.start(next.Lock)
		w.Client("a").Cut()
		<-s.Done()
		over := time.Now()
		require.ErrorIs(w, NewMutex(s, "other").Lock(w.ctx), ErrSessionExpired)
		require.Equal(w, over, time.Now(), "at once")
		require.NoError(w, waiting.result())
		require.Greater(w, waiting.at.Sub(over), 900*time.Millisecond, "the margin")
		require.ErrorIs(w, s.Ctx().Err(), context.Canceled)
		require.ErrorIs(w, context.Cause(s.Ctx()), ErrSessionExpired)
		require.ErrorIs(w, context.Cause(s.Ctx()), etcdlock.ErrLost)
		require.ErrorIs(w, m.Hold().Err(), etcdlock.ErrExpired)
	})
}

// The session below continues with another lease, which no caller may see.
func TestASessionThatLostItsLeaseDoesNothingAnyMore(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m, e := NewMutex(s, "m"), NewElection(s, "e")
		id := s.Lease()
		w.RevokeLease(id)
		<-s.Done()
		require.ErrorIs(w, m.Lock(w.ctx), ErrSessionExpired)
		require.ErrorIs(w, m.TryLock(w.ctx), ErrSessionExpired)
		require.ErrorIs(w, e.Campaign(w.ctx, "x"), ErrElectionNotLeader)
		require.Equal(w, id, s.Lease())
		require.NoError(w, s.Close(), "it is gone, as was wanted")
		w.pass(time.Minute)
		require.Empty(w, w.Leases())
		require.Empty(w, w.Keys(""))
	})
}

// A grant under a later lease must not be taken for one of this session, in whatever
// order its goroutines get to know of the loss.
func TestAGrantUnderALaterLeaseIsNotTaken(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		require.True(w, s.ownsHolds())
		waiting := w.start(func(ctx context.Context) error {
			for ctx.Err() == nil {
				m := NewMutex(s, "m")
				if err := m.Lock(ctx); err != nil {
					return err
				}
				if key := m.Key(); key != "m/"+hexOf(s) {
					return context.DeadlineExceeded
				}
				if err := m.Unlock(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		w.RevokeLease(s.Lease())
		require.ErrorIs(w, waiting.result(), ErrSessionExpired)
		require.False(w, s.ownsHolds())
	})
}

func TestOrphanLeavesTheLeaseToASuccessor(t *testing.T) {
	simulate(t, func(w *world) {
		other := NewMutex(w.session("c"), "other")
		require.NoError(w, other.Lock(w.ctx))
		s := w.session("a")
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		waiting := w.start(NewMutex(s, "other").Lock)
		s.Orphan()
		require.ErrorIs(w, waiting.result(), ErrSessionExpired)
		require.ErrorIs(w, context.Cause(s.Ctx()), etcdlock.ErrOrphaned)
		require.Len(w, w.Keys("m/"), 1)
		require.Len(w, w.Keys("other/"), 1, "the wait's key is gone")
		require.ErrorIs(w, m.Unlock(w.ctx), etcdlock.ErrOrphaned)
		require.Len(w, w.Keys("m/"), 1, "it is the successor's")
		require.ErrorIs(w, m.Lock(w.ctx), ErrSessionExpired)

		next := w.session("b", WithLease(s.Lease()))
		require.Equal(w, s.Lease(), next.Lease())
		successor := NewMutex(next, "m")
		require.NoError(w, successor.Lock(w.timeout(time.Second)))
		w.pass(time.Minute)
		require.True(w, w.isOwner(successor))
		require.NoError(w, successor.Unlock(w.ctx))
		require.NoError(w, next.Close())
		s.Orphan() // again
		require.NoError(w, s.Close(), "its lease is gone already")
	})
}

func TestOrphanReturnsWithoutEtcd(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		holder := NewMutex(w.session("b"), "other")
		require.NoError(w, holder.Lock(w.ctx))
		waiting := w.start(NewMutex(s, "other").Lock)
		w.Client("a").Cut()
		began := time.Now()
		s.Orphan()
		require.LessOrEqual(w, time.Since(began), leaveTimeout)
		require.ErrorIs(w, waiting.result(), ErrSessionExpired)
		w.Client("a").Heal()
		w.pass(time.Second)
		require.Len(w, w.Keys("m/"), 1, "left, not revoked")
		w.pass(20 * time.Second)
		require.Empty(w, w.Keys("m/"))
		require.Len(w, w.Keys("other/"), 1)
	})
}

func TestCloseAfterOrphanRevokes(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		require.NoError(w, NewMutex(s, "m").Lock(w.ctx))
		s.Orphan()
		require.Len(w, w.Leases(), 1)
		require.NoError(w, s.Close())
		require.Empty(w, w.Leases())
		require.NoError(w, s.Close())
	})
}

func TestCloseReleasesEverythingAndIsBoundedByTheTTL(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		require.NoError(w, NewMutex(s, "m").Lock(w.ctx))
		require.NoError(w, s.Close())
		require.Empty(w, w.Leases())
		require.ErrorIs(w, context.Cause(s.Ctx()), etcdlock.ErrSessionClosed)

		s = w.session("a")
		w.Client("a").Cut()
		began := time.Now()
		require.ErrorIs(w, s.Close(), context.DeadlineExceeded)
		require.LessOrEqual(w, time.Since(began), 10*time.Second)
	})
}

// trap C2 is not one here: it is what WithContext is for.
func TestTheContextOfASessionEndsItAndLeavesTheLease(t *testing.T) {
	simulate(t, func(w *world) {
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(w.ctx, key{}, "value"))
		s := w.session("a", WithContext(ctx))
		require.Equal(w, "value", s.Ctx().Value(key{}))
		require.NoError(w, NewMutex(s, "m").Lock(w.ctx))
		cancel()
		<-s.Done()
		require.ErrorIs(w, s.Close(), context.Canceled)
		require.Len(w, w.Keys("m/"), 1)
		w.pass(11 * time.Second)
		require.Empty(w, w.Keys("m/"))

		w.Client("a").Cut()
		_, err := NewSession(w.Client("a").Client, WithContext(w.timeout(time.Second)))
		require.True(w, err == context.DeadlineExceeded) //nolint:errorlint // programs compare so
	})
}

func TestTheClientsEndIsTheSessions(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		s := w.session("a")
		require.NoError(w, c.Close())
		<-s.Done()
		require.Error(w, s.Close())
	})
}

func TestTTLs(t *testing.T) {
	simulate(t, func(w *world) {
		ttl := func(s *Session) int64 {
			resp, err := w.Client("judge").TimeToLive(w.ctx, s.Lease())
			require.NoError(w, err)
			return resp.GrantedTTL
		}
		plain, err := NewSession(w.Client("a").Client)
		require.NoError(w, err)
		defer plain.Close()
		require.EqualValues(w, 60, ttl(plain))
		require.EqualValues(w, 90, ttl(w.session("a", WithTTL(90))))
		require.EqualValues(w, 10, ttl(w.session("a", WithTTL(0))), "as set before")
		require.Len(w, w.logs.FilterMessageSnippet("WithTTL()").All(), 1)

		// Trap C6: etcd raises a short TTL, and the session goes by what it was granted.
		w.SetMinTTL(5 * time.Second)
		short := w.session("b", WithTTL(1))
		require.EqualValues(w, 5, ttl(short))
		require.NoError(w, NewMutex(short, "m").Lock(w.ctx))
		w.pass(time.Minute)
		require.NoError(w, short.Ctx().Err())
		require.NoError(w, short.Close())

		if overflows := int64(1<<55 + 5); math.MaxInt > math.MaxInt32 { // 5 s in a Duration that overflows
			for _, seconds := range []int{math.MaxInt, int(overflows)} {
				_, err = NewSession(w.Client("a").Client, WithTTL(seconds))
				require.ErrorIs(w, err, rpctypes.ErrLeaseTTLTooLarge)
			}
		}
		require.NoError(w, plain.Close())
	})
}

// trap C7
func TestASessionOnADeadLeaseIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		_, err := NewSession(w.Client("a").Client, WithLease(0x1f))
		require.ErrorIs(w, err, rpctypes.ErrLeaseNotFound)
		require.ErrorIs(w, err, etcdlock.ErrLeaseNotFound)
		_, err = NewSession(nil)
		require.ErrorIs(w, err, etcdlock.ErrNilClient)
	})
}

// A lease that was cut off lives on in etcd when there is a new raft leader. Its keys
// block all other sessions until it is revoked.
func TestALostLeaseIsRevokedWhenEtcdIsBack(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		w.Client("a").Cut()
		w.pass(5 * time.Second)
		w.NewLeader() // the lease gets its full TTL again
		<-s.Done()
		w.Client("a").Heal()
		next := NewMutex(w.session("b"), "m")
		began := time.Now()
		require.NoError(w, next.Lock(w.ctx))
		require.Less(w, time.Since(began), 4*time.Second)
		require.Greater(w, time.Since(began), 900*time.Millisecond, "the margin is for those who held")
	})
}

// A library that was handed sessions of both kinds sees the same values.
func TestErrorsOfBothPackagesMatch(t *testing.T) {
	simulate(t, func(w *world) {
		theirs, err := etcd.NewSession(w.Client("etcd").Client, etcd.WithTTL(10))
		require.NoError(w, err)
		defer theirs.Close()
		require.NoError(w, etcd.NewMutex(theirs, "m").Lock(w.ctx))
		require.ErrorIs(w, NewMutex(w.session("a"), "m").TryLock(w.ctx), etcd.ErrLocked)
	})
}

// Nothing but what a lock and an unlock cost with etcdlock.
func TestCompatCostsNoRequests(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		m := NewMutex(w.session("a"), "m")
		c.ResetCounts()
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, m.Unlock(w.ctx))
		w.pass(time.Second)
		require.Equal(w, 2, c.Count(simetcd.Txn, simetcd.Range, simetcd.Put, simetcd.Delete, simetcd.TxnReadOnly))
	})
}
