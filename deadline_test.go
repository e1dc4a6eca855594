package etcdlock

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// renewals notes when a client sends its renewals, and what becomes of them.
type renewals struct {
	mu   sync.Mutex
	sent []time.Time
	fate func(n int) simetcd.Action // of the nth one since, from 0
}

func (w *world) renewals(client string, fate func(n int) simetcd.Action) *renewals {
	r := &renewals{fate: fate}
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client != client || c.Kind != simetcd.LeaseKeepAlive {
			return simetcd.Action{}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, time.Now())
		return r.fate(len(r.sent) - 1)
	})
	return r
}

func (r *renewals) at(n int) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[n]
}

// traps C3, C4, A11: the one equation, to the instant. Whatever the network does, a
// hold ends at sentAt(last answered request) + TTL - margin, which is before the
// lease ends in etcd, which is before the next one is granted.
func TestAHoldEndsByTheSendTimeOfTheLastAnsweredRenewal(t *testing.T) {
	lost := simetcd.Action{DropReply: true}
	for what, tc := range map[string]struct {
		ttl, margin time.Duration // margin 0: the default
		fate        func(n int) simetcd.Action
		last        int // the renewal that counts; -1 for the grant
	}{
		"cut off before the first renewal": {
			2 * time.Second, 0, func(int) simetcd.Action { return simetcd.Action{DropRequest: true} }, -1,
		},
		"renewals arrive, and no answer does": {
			10 * time.Second, 0, func(int) simetcd.Action { return lost }, -1,
		},
		"cut off after three renewals": {
			10 * time.Second, 0, func(n int) simetcd.Action { return simetcd.Action{DropRequest: n > 2} }, 2,
		},
		"answered 2.7 s late, then silence": {
			5 * time.Second, 0, func(n int) simetcd.Action {
				if n == 0 {
					return simetcd.Action{DelayReply: 2700 * time.Millisecond}
				}
				return lost
			}, 0,
		},
		"4 s late on the way there, then silence": {
			5 * time.Second, 0, func(n int) simetcd.Action {
				if n == 0 {
					return simetcd.Action{DelayRequest: 4 * time.Second}
				}
				return simetcd.Action{DropRequest: true}
			}, -1, // the answer comes too late, whatever it says
		},
		"answers overtake each other": {
			12 * time.Second, 0, func(n int) simetcd.Action {
				switch n {
				case 0:
					return simetcd.Action{DelayReply: 7 * time.Second} // 4 s + 7 s, after the next one's
				case 1:
					return simetcd.Action{}
				}
				return lost
			}, 1,
		},
		"a margin of its own": {
			10 * time.Second, 4 * time.Second, func(n int) simetcd.Action { return simetcd.Action{DropRequest: n > 0} }, 0,
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				r := w.renewals("a", tc.fate)
				granted := time.Now()
				s := w.session("a", WithTTL(tc.ttl), WithMargin(tc.margin))
				id := s.Lease()
				l := w.lock(NewMutex(s, "m"))
				wait := start(w, NewMutex(w.session("b"), "m").Lock)

				<-l.Done()
				ended, expiry := time.Now(), w.LeaseExpiry(id)
				sent := granted
				if tc.last >= 0 {
					sent = r.at(tc.last)
				}
				margin := tc.margin
				if margin == 0 {
					margin = min(tc.ttl/10, time.Second)
				}
				require.Equal(w, tc.ttl-margin, ended.Sub(sent))
				require.ErrorIs(w, context.Cause(l.Context()), ErrLost)
				require.ErrorIs(w, l.Err(), ErrExpired)
				require.Zero(w, l.Deadline())
				require.False(w, expiry.IsZero(), "it stands in etcd when it ends here")
				require.GreaterOrEqual(w, expiry.Sub(ended), margin)
				wait.isWaiting()
				require.ErrorIs(w, l.Unlock(w.ctx), ErrExpired)

				w.Intercept(nil)
				next := wait.get()
				require.GreaterOrEqual(w, wait.at.Sub(ended), margin)
				require.Greater(w, next.Token(), l.Token())
				require.NoError(w, next.Unlock(w.ctx))
			})
		})
	}
}

// trap A11
func TestTheDeadlineIsKnownBeforehandAndMovesWithEachRenewal(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m"))
		first := l.Deadline()
		w.pass(8 * time.Second)
		require.NoError(w, l.Err())
		require.Greater(w, l.Deadline().Sub(first), 6*time.Second)

		w.Client("a").Cut()
		w.pass(time.Second)
		known := l.Deadline()
		<-l.Done()
		require.Zero(w, time.Since(known))
	})
}

// movable is the clock of a machine that can be put to sleep: timers stand still,
// this clock does not.
type movable struct {
	mu    sync.Mutex
	start time.Time
	slept time.Duration
}

func (c *movable) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.start) + c.slept
}

func (c *movable) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}

// trap A11
func TestAMachineThatSleptPastItsDeadlineKnowsSoWhenItWakesUp(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 10 * time.Second, 10 * time.Minute} {
		simulate(t, func(w *world) {
			clock := &movable{start: time.Now()}
			s := w.session("a", withClock(clock.now), WithTTL(ttl))
			l, unasked := w.lock(NewMutex(s, "m")), w.lock(NewMutex(s, "n"))
			w.pass(100 * time.Millisecond)

			clock.sleep(ttl * 2 / 3)
			require.NoError(w, l.Err(), "a nap is nothing")
			clock.sleep(ttl)
			require.ErrorIs(w, l.Err(), ErrExpired, "at once, with no timer having fired")
			require.ErrorIs(w, l.Unlock(w.ctx), ErrExpired)
			require.Equal(w, l.Err(), unasked.Err())
			require.Zero(w, l.Deadline())
			require.Zero(w, s.Lease())

			again := w.lock(NewMutex(s, "o")) // under another lease
			require.Greater(w, again.Token(), unasked.Token())
			w.pass(100 * time.Millisecond)

			clock.sleep(2 * ttl)
			woken := time.Now()
			<-again.Done() // no caller asks
			require.LessOrEqual(w, time.Since(woken), 500*time.Millisecond)
			require.ErrorIs(w, context.Cause(again.Context()), ErrExpired)
			w.pass(2 * time.Second)
		})
	}
}

// A machine sleeps until shortly before the deadline. Its timers are late by that, and what is held
// has to end before the lease does.
func TestAMachineThatSleptUntilShortlyBeforeItsDeadlineKnowsItWithinTheMargin(t *testing.T) {
	for ttl, margin := range map[time.Duration]time.Duration{5 * time.Second: 150 * time.Millisecond, time.Second: 0, 10 * time.Second: 0, time.Minute: 10 * time.Millisecond} {
		simulate(t, func(w *world) {
			clock := &movable{start: time.Now()}
			s := w.session("a", withClock(clock.now), WithTTL(ttl), WithMargin(margin))
			l := w.lock(NewMutex(s, "m"))
			w.Client("a").Cut() // no renewal is in time
			margin := w.LeaseExpiry(s.Lease()).Sub(l.Deadline())
			clock.sleep(time.Until(l.Deadline()) - time.Millisecond)
			expires := time.Now().Add(time.Millisecond)
			<-l.Done()
			require.Less(w, time.Since(expires), margin/2)
			w.Client("a").Heal()
			w.pass(time.Second)
		})
	}
}

// trap C6
func TestTheTTLThatEtcdGrantedCounts(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithTTL(5*time.Second))
		w.Client("a").Cut()
		w.pass(5 * time.Second)
		require.Equal(w, StateLost, s.State())
		w.SetMinTTL(20 * time.Second) // an operator changes the election timeout
		w.Client("a").Heal()
		l := w.lock(NewMutex(s, "m"))
		require.Equal(w, 20*time.Second, s.TTL())

		w.Client("a").Cut()
		expiry := w.LeaseExpiry(s.Lease())
		<-l.Done()
		require.InDelta(w, time.Second, time.Until(expiry), float64(2*time.Millisecond), "a tenth of 20 s, at most 1 s")
		w.Client("a").Heal()
		w.pass(time.Second)
		w.allGone()
	})
}

// A TTL can be taken over that the margin does not go with; then there is no instant
// at which the lease can be relied on.
func TestALeaseShorterThanTheMarginIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		id := w.GrantLease(2 * time.Second)
		_, err := NewSession(w.ctx, w.Client("a").Client, WithLease(id), WithMargin(5*time.Second))
		require.ErrorIs(w, err, ErrInvalidOption)
		w.pass(10 * time.Second)
		require.LessOrEqual(w, w.Client("a").Count(simetcd.LeaseGrant), 1, "no lease after the other")
	})
}

func TestAHoldOutlivesWhatItsLeaseOutlives(t *testing.T) {
	for what, happens := range map[string]func(w *world){
		"a restart":                    func(w *world) { w.Stop(); w.pass(5 * time.Second); w.Start() },
		"a new leader":                 func(w *world) { w.NewLeader() },
		"a cut":                        func(w *world) { w.Client("a").Cut(); w.pass(4 * time.Second); w.Client("a").Heal() },
		"a reset":                      func(w *world) { w.Client("a").Reset() },
		"a compaction":                 func(w *world) { w.Compact(0) },
		"broken watches":               func(w *world) { w.CutWatches() },
		"cancelled watches":            func(w *world) { w.CancelWatches("made for a test") },
		"a cut that TCP gets over":     func(w *world) { w.Client("a").Cut(); w.pass(4 * time.Second); w.Client("a").Resume() },
		"a deletion of somebody's key": func(w *world) { w.PutKey("m2/x", "", 0); w.DeleteKey("m2/x") },
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				l := w.lock(NewMutex(s, "m"))
				w.pass(time.Minute)
				happens(w)
				w.pass(time.Minute)
				require.NoError(w, l.Err())
				require.Equal(w, StateConnected, s.State())
				key := l.Key()
				require.True(w, w.DeleteKey(key), "and its key is watched still")
				w.pass(2 * time.Second)
				synctest.Wait()
				require.ErrorIs(w, l.Err(), ErrEvicted)
				w.allGone()
			})
		})
	}
}
