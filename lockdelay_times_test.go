package etcdlock

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What is derived from the time of a hold must not grow with the lock-delay, which only counts in
// etcd after a crash. Each of these took the TTL of the lease for the time of a hold.
//
// report P1
func TestNothingThatReasonsWithTheTTLCountsTheLockDelay(t *testing.T) {
	delays := []time.Duration{0, 13 * time.Second, time.Hour}
	each := func(t *testing.T, test func(w *world, s *Session)) {
		for _, d := range delays {
			t.Run(d.String(), func(t *testing.T) {
				simulate(t, func(w *world) {
					s := w.session("a", WithLockDelay(d))
					require.Equal(w, ttl, s.TTL())
					require.Equal(w, ttl+d, s.LeaseTTL())
					test(w, s)
				})
			})
		}
	}
	t.Run("Run campaigns again at once after a term longer than a TTL", func(t *testing.T) {
		each(t, func(w *world, s *Session) {
			run := w.run(NewElection(s, "e"), nil)
			for range 6 {
				term := run.term()
				w.pass(2 * ttl)
				w.DeleteKey(term.Key())
				<-term.Done()
				lost := time.Now()
				term = run.term()
				require.Less(w, time.Since(lost), 500*time.Millisecond)
				w.pass(2 * ttl)
				w.DeleteKey(term.Key())
			}
			run.end()
		})
	})
	t.Run("Run tries to resign for no longer than a TTL", func(t *testing.T) {
		each(t, func(w *world, s *Session) {
			run := w.run(NewElection(s, "e"), func(context.Context, *Term) error { w.Client("a").Cut(); return nil })
			term := run.term()
			began := time.Now()
			run.get()
			require.LessOrEqual(w, time.Since(began), ttl)
			require.Error(w, term.Err())
			w.Client("a").Heal()
		})
	})
	t.Run("a session grants another lease at once after one that lasted", func(t *testing.T) {
		each(t, func(w *world, s *Session) {
			for range 6 {
				w.pass(2 * ttl)
				last := s.Lease()
				w.RevokeLease(last)
				for s.Lease() == last {
					w.pass(10 * time.Millisecond) // until a renewal finds out
				}
				lost := time.Now()
				for s.Lease() == clientv3.NoLease {
					w.pass(10 * time.Millisecond)
				}
				require.Less(w, time.Since(lost), 500*time.Millisecond)
			}
		})
	})
	t.Run("a machine that was asleep looks at the deadline as soon", func(t *testing.T) {
		each(t, func(w *world, _ *Session) {
			var slept atomic.Int64
			clock := bubbleClock()
			s := w.session("b", WithTTL(3*time.Second), WithLockDelay(time.Minute), withClock(func() time.Duration { return clock() + time.Duration(slept.Load()) }))
			l := w.lock(NewMutex(s, "m"))
			synctest.Wait()
			slept.Store(int64(10 * time.Second))
			woke := time.Now()
			<-l.Done()
			require.LessOrEqual(w, time.Since(woke), 150*time.Millisecond)
		})
	})
}
