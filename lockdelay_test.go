package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

const delay = 5 * time.Second

func TestAfterAnExpiryTheNextOneIsAdmittedOnlyAfterTheDelay(t *testing.T) {
	for _, d := range []time.Duration{0, delay} {
		simulate(t, func(w *world) {
			held := w.lock(NewMutex(w.session("a", WithLockDelay(d)), "m"))
			next := start(w, NewMutex(w.session("b"), "m").Lock)
			reader := start(w, NewRWMutex(w.session("c"), "m").RLock)
			w.pass(20 * time.Second)
			next.isWaiting()
			require.LessOrEqual(w, time.Until(held.Deadline()), 9*time.Second)
			w.Client("a").Cut()
			began := time.Now()
			<-held.Done()
			over := time.Now()
			require.ErrorIs(w, held.Err(), ErrExpired)
			require.LessOrEqual(w, over.Sub(began), 9*time.Second, "the hold ends at the usual deadline")
			l := next.get()
			require.InDelta(w, time.Second+d, next.at.Sub(over), float64(100*time.Millisecond), "margin and delay")
			require.Greater(w, l.Token(), held.Token())
			require.NoError(w, l.Unlock(w.ctx))
			require.NoError(w, reader.get().Unlock(w.ctx))
			w.Client("a").Heal()
			w.allGone()
		})
	}
}

func TestTheDelayIsNoneAfterAReleaseOrACloseOrARevocation(t *testing.T) {
	simulate(t, func(w *world) {
		b := NewMutex(w.session("b"), "m")
		after := func(end func(s *Session, l *Lock)) {
			t.Helper()
			s := w.session("a", WithLockDelay(delay))
			l := w.lock(NewMutex(s, "m"))
			next := start(w, b.Lock)
			w.pass(time.Second)
			next.isWaiting()
			began := time.Now()
			end(s, l)
			got := next.get()
			require.Less(w, next.at.Sub(began), 100*time.Millisecond)
			require.NoError(w, got.Unlock(w.ctx))
			require.NoError(w, s.Close(w.ctx))
		}
		after(func(_ *Session, l *Lock) { require.NoError(w, l.Unlock(w.ctx)) })
		after(func(s *Session, _ *Lock) { require.NoError(w, s.Close(w.ctx)) })
		after(func(s *Session, _ *Lock) { w.RevokeLease(s.Lease()) })
		after(func(_ *Session, l *Lock) { w.DeleteKey(l.Key()) })
	})
}

// The process that lost its hold closes its session in order. Its last request may still be in
// flight.
func TestACloseAfterAnExpiryDoesNotCutTheDelayShort(t *testing.T) {
	for _, anotherLease := range []bool{false, true} {
		simulate(t, func(w *world) {
			s := w.session("a", WithLockDelay(delay))
			held := w.lock(NewMutex(s, "m"))
			next := start(w, NewMutex(w.session("b"), "m").Lock)
			w.pass(time.Second)
			w.Client("a").Cut()
			<-held.Done()
			over := time.Now()
			w.Client("a").Heal()
			if anotherLease {
				w.pass(time.Second)
				require.Equal(w, StateConnected, s.State())
			}
			require.NoError(w, s.Close(w.ctx))
			require.NoError(w, next.get().Unlock(w.ctx))
			require.InDelta(w, time.Second+delay, next.at.Sub(over), float64(100*time.Millisecond))
			w.allGone()
		})
	}
}

// The deadline passes while the process, or its machine, stands still; the Close comes before any
// timer fires.
func TestACloseAfterAnExpiryThatNobodyHasSeenDoesNotCutTheDelayShort(t *testing.T) {
	simulate(t, func(w *world) {
		clock := &movable{start: time.Now()}
		s := w.session("a", WithLockDelay(delay), withClock(clock.now))
		w.lock(NewMutex(s, "m"))
		next := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(100 * time.Millisecond)
		clock.sleep(ttl)
		woken := time.Now()
		require.NoError(w, s.Close(w.ctx))
		require.NoError(w, next.get().Unlock(w.ctx))
		require.Greater(w, next.at.Sub(woken), delay)
		w.allGone()
	})
}

func TestTheDelayDoesNotChangeTheRenewals(t *testing.T) {
	simulate(t, func(w *world) {
		plain, delayed := w.session("a"), w.session("b", WithLockDelay(time.Hour))
		w.pass(10 * time.Minute)
		require.InDelta(w, w.Client("a").Count(simetcd.LeaseKeepAlive), w.Client("b").Count(simetcd.LeaseKeepAlive), 2)
		require.Equal(w, ttl, plain.TTL())
		require.Equal(w, ttl, delayed.TTL())
		require.Equal(w, ttl+time.Hour, delayed.LeaseTTL())
		l := w.lock(NewMutex(delayed, "m"))
		require.InDelta(w, 7.5*float64(time.Second), time.Until(l.Deadline()), float64(1700*time.Millisecond))
		require.NoError(w, l.Unlock(w.ctx))
		w.allGone()
	})
}

func TestTheDelayOutlivesANewRaftLeaderAndCountsForEveryLease(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithLockDelay(delay))
		for range 2 { // the lease after a loss has it too
			held := w.lock(NewMutex(s, "m"))
			next := start(w, NewMutex(w.session("b"), "m").Lock)
			w.pass(time.Second)
			w.Client("a").Cut()
			<-held.Done()
			over := time.Now()
			w.NewLeader() // grants it all its TTL again
			w.Client("a").Heal()
			require.NoError(w, next.get().Unlock(w.ctx))
			require.InDelta(w, time.Second+delay, next.at.Sub(over), float64(200*time.Millisecond), "revoked in time")
			require.NoError(w, w.sessions[len(w.sessions)-1].Close(w.ctx))
		}
		w.allGone()
	})
}

func TestTheDelayOfALeaseThatIsTakenOverIsAPartOfItsTTL(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a", WithLockDelay(delay))
		w.lock(NewMutex(a, "m"))
		heir := w.session("b", WithLease(w.orphan(a)), WithLockDelay(delay))
		held := w.lock(NewMutex(heir, "m"))
		next := start(w, NewMutex(w.session("c"), "m").Lock)
		w.pass(20 * time.Second)
		require.LessOrEqual(w, time.Until(held.Deadline()), 9*time.Second)
		w.Client("b").Cut()
		<-held.Done()
		over := time.Now()
		require.NoError(w, next.get().Unlock(w.ctx))
		require.InDelta(w, time.Second+delay, next.at.Sub(over), float64(100*time.Millisecond))
		w.Client("b").Heal()
		w.allGone()
	})
}

func TestADelayThatCannotBe(t *testing.T) {
	simulate(t, func(w *world) {
		for _, d := range []time.Duration{-time.Second, 1500 * time.Millisecond} {
			_, err := NewSession(w.ctx, w.Client("a").Client, WithLockDelay(d))
			require.ErrorIs(w, err, ErrInvalidOption)
		}
		id := w.GrantLease(5 * time.Second)
		_, err := NewSession(w.ctx, w.Client("a").Client, WithLease(id), WithLockDelay(5*time.Second))
		require.ErrorIs(w, err, ErrInvalidTTL)
	})
}
