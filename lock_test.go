package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestALockIsHandedOverInOrder(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m"), NewMutex(w.session("c"), "m")
		la := w.lock(a)
		waitB := start(w, b.Lock)
		w.pass(10 * time.Millisecond)
		waitC := start(w, c.Lock)
		w.pass(time.Second)
		waitB.isWaiting()
		waitC.isWaiting()

		require.NoError(w, la.Unlock(w.ctx))
		require.ErrorIs(w, la.Err(), ErrReleased)
		require.ErrorIs(w, context.Cause(la.Context()), ErrReleased)
		lb := waitB.get()
		require.Greater(w, lb.Token(), la.Token())
		waitC.isWaiting()

		require.NoError(w, lb.Unlock(w.ctx))
		lc := waitC.get()
		require.Greater(w, lc.Token(), lb.Token())
		require.NoError(w, lc.Unlock(w.ctx))
		w.allGone()
	})
}

// trap A9
func TestUnlockingTwiceAndUnlockingWhatWasLostIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		l := w.lock(m)
		require.NoError(w, l.Unlock(w.ctx))
		require.ErrorIs(w, l.Unlock(w.ctx), ErrReleased)

		l = w.lock(m)
		w.RevokeLease(s.Lease())
		err := l.Unlock(w.ctx)
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrRevoked)
		require.NotErrorIs(w, err, ErrEvicted)
	})
}

// requests returns what a client sends while f runs, except renewals and the ends of
// watches, which no caller waits for.
func requests(c *simetcd.Client, f func()) string {
	c.ResetCounts()
	f()
	synctest.Wait()
	var sent []string
	for kind := simetcd.Range; kind <= simetcd.WatchProgress; kind++ {
		if n := c.Count(kind); n > 0 && kind != simetcd.LeaseKeepAlive && kind != simetcd.WatchCancel {
			sent = append(sent, fmt.Sprintf("%d %v", n, kind))
		}
	}
	return strings.Join(sent, ", ")
}

// The table of design.md, section 6.
func TestEveryPathTakesAsFewRequestsAsPromised(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		ca, cb := w.Client("a"), w.Client("b")
		var la, lb *Lock
		require.Equal(w, "1 Txn", requests(ca, func() { la = w.lock(a) }), "lock, free")

		before := w.Revision()
		require.Equal(w, "1 Txn", requests(cb, func() {
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		}), "try, taken")
		require.Equal(w, before, w.Revision(), "nothing was written")
		require.Empty(w, requests(ca, func() {
			_, err := a.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		}), "try, taken by this very session")

		var wait *pending[*Lock]
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(cb, func() {
			wait = start(w, b.Lock)
			w.pass(200 * time.Millisecond)
		}), "to be in line")
		wait.isWaiting()
		require.Empty(w, requests(cb, func() {
			require.Equal(w, "1 Txn", requests(ca, func() { require.NoError(t, la.Unlock(w.ctx)) }), "unlock")
			lb = wait.get()
		}), "handover")
		require.Equal(w, "1 Txn", requests(cb, func() { require.NoError(t, lb.Unlock(w.ctx)) }))

		w.pass(2 * time.Second) // the view that the wait had opened is closed by now
		require.Equal(w, "1 Txn", requests(cb, func() {
			var err error
			lb, err = b.TryLock(w.ctx)
			require.NoError(w, err)
		}), "try, free")
		require.Equal(w, "1 Watch", requests(cb, func() { w.pass(30 * time.Second) }),
			"a hold that lasts has its own key watched")
		require.Equal(w, "1 Txn", requests(cb, func() { require.NoError(t, lb.Unlock(w.ctx)) }))
		w.allGone()
	})
}

// trap A19
func TestOneSessionServesAnyNumberOfLocks(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		s := w.session("a")
		var locks []*Lock
		for i := range 100 {
			locks = append(locks, w.lock(NewMutex(s, fmt.Sprintf("orders/%d", i))))
		}
		require.Len(w, w.Leases(), 1)
		require.Equal(w, 1, c.Count(simetcd.LeaseGrant))
		c.ResetCounts()
		w.pass(time.Minute)
		require.LessOrEqual(w, c.Count(simetcd.LeaseKeepAlive), 20, "one renewal for all")
		for _, l := range locks {
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}

// trap A13
func TestOfTwoTryLocksOnAFreeLockOneSucceeds(t *testing.T) {
	for seed := range uint64(30) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
			tryA, tryB := start(w, a.TryLock), start(w, b.TryLock)
			la, errA := tryA.result()
			lb, errB := tryB.result()
			require.NotEqual(w, errA == nil, errB == nil, "%v, %v", errA, errB)
			for _, try := range []struct {
				l   *Lock
				err error
			}{{la, errA}, {lb, errB}} {
				if try.err != nil {
					require.ErrorIs(w, try.err, ErrLocked)
					continue
				}
				require.Len(w, w.Keys("m/"), 1)
				require.NoError(w, try.l.Unlock(w.ctx))
			}
			w.empty("m")
		})
	}
}

// traps A13, A4
func TestATryLockWhoseAnswerIsLostIsGrantedOrLeavesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewMutex(w.session("a"), "m")
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		l, err := a.TryLock(w.timeout(time.Minute))
		require.NoError(w, err, "it finds its own key")
		require.NoError(w, l.Unlock(w.ctx))
		w.empty("m")

		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		_, err = a.TryLock(w.timeout(time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.Len(w, w.Keys("m/"), 1)
		w.pass(4 * time.Second)
		w.empty("m")

		// The first one arrives when the second has been refused and the holder has gone.
		b := w.lock(NewMutex(w.session("b"), "m"))
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 5 * time.Second})
		_, err = a.TryLock(w.timeout(time.Minute))
		require.ErrorIs(w, err, ErrLocked)
		require.NoError(w, b.Unlock(w.ctx))
		w.pass(4500 * time.Millisecond)
		require.Len(w, w.Keys("m/"), 1, "this is what the test is about")
		w.pass(15 * time.Second)
		w.empty("m")
		w.allGone()
	})
}

// trap A8
func TestADeleteThatArrivesLateSparesTheNextLockOfTheSession(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		first := w.lock(m)
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 7 * time.Second})
		require.NoError(w, first.Unlock(w.ctx), "by the second delete, sent beside the first")

		second := w.lock(m)
		require.Equal(w, first.Key(), second.Key())
		require.ErrorIs(w, first.Unlock(w.ctx), ErrReleased)
		w.pass(30 * time.Second)
		require.NoError(w, second.Err())
		require.NotNil(w, w.Get(second.Key()))
		require.Greater(w, second.Token(), first.Token())
		require.NoError(w, second.Unlock(w.ctx))
		w.allGone()
	})
}

// trap A10
func TestAnUnlockWithoutANetworkEndsAtOnceAndIsDoneLater(t *testing.T) {
	for what, cut := range map[string]func(*simetcd.Client){
		"the request is lost": (*simetcd.Client).Cut,
		"the answer is lost":  (*simetcd.Client).CutReplies,
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				l := w.lock(NewMutex(w.session("a"), "m"))
				wait := start(w, NewMutex(w.session("b"), "m").Lock)
				w.pass(time.Second)
				cut(w.Client("a"))

				began := time.Now()
				unlock := start(w, func(context.Context) (any, error) { return nil, l.Unlock(w.timeout(2 * time.Second)) })
				synctest.Wait()
				require.ErrorIs(w, l.Err(), ErrReleased, "over here at once")
				unlock.fails(context.DeadlineExceeded)
				require.Equal(w, 2*time.Second, unlock.at.Sub(began))
				require.ErrorIs(w, l.Unlock(w.ctx), ErrReleased)

				w.Client("a").Heal()
				require.NoError(w, wait.get().Unlock(w.ctx))
				require.Less(w, wait.at.Sub(began), 5*time.Second)
				w.pass(5 * time.Second)
				w.allGone()
			})
		})
	}
}

// trap A4
func TestAnEnqueueOfUnknownOutcomeLeavesNoPhantom(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"the request is lost":            {DropRequest: true},
		"the answer is lost":             {DropReply: true},
		"the request is late by 2 s":     {DelayRequest: 2 * time.Second},
		"the request is late by 5 s":     {DelayRequest: 5 * time.Second},
		"the request is late by 8 s":     {DelayRequest: 8 * time.Second},
		"the answer is late":             {DelayReply: 5 * time.Second},
		"applied and called unavailable": {ErrAfter: unavailable},
	} {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, taken %v", what, taken), func(t *testing.T) {
				simulate(t, func(w *world) {
					a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
					var lb *Lock
					if taken {
						lb = w.lock(b)
					}
					w.next("a", simetcd.Txn, act)
					wait := start(w, a.Lock)
					w.pass(time.Second)
					wait.cancel()
					synctest.Wait()
					if _, err := wait.result(); err == nil {
						require.NoError(w, wait.value.Unlock(w.ctx)) // it had been granted
					}
					if taken {
						require.NoError(w, lb.Unlock(w.ctx))
					}
					w.pass(20 * time.Second)
					w.empty("m")
					require.NoError(w, w.lock(b).Unlock(w.ctx))
					w.allGone()
				})
			})
		}
	}
}

// trap A4
func TestALockAfterAnEnqueueOfUnknownOutcomeIsTheCallersOwn(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 5 * time.Second})
		wait := start(w, m.Lock)
		w.pass(time.Second)
		wait.cancel()
		wait.fails(context.Canceled)

		w.pass(3 * time.Second) // the second try has been applied and taken back
		l := w.lock(m)
		w.pass(30 * time.Second) // the first one has arrived, and the search for it is over
		require.NoError(w, l.Err())
		require.NotNil(w, w.Get(l.Key()))
		require.NoError(w, l.Unlock(w.ctx))
		w.pass(30 * time.Second)
		w.empty("m")
		w.allGone()
	})
}

// trap A12
func TestACallReturnsWithItsContextAlsoWhenEtcdIsAway(t *testing.T) {
	for what, away := range map[string]func(w *world){
		"stopped": func(w *world) { w.Stop() },
		"cut off": func(w *world) { w.Client("a").Cut() },
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a", WithTTL(time.Minute))
				held := w.lock(NewMutex(s, "held"))
				away(w)
				began := time.Now()
				ctx := w.timeout(2 * time.Second)
				_, err := NewMutex(s, "m").Lock(ctx)
				require.ErrorIs(w, err, context.DeadlineExceeded)
				_, err = NewMutex(s, "m").TryLock(ctx)
				require.ErrorIs(w, err, context.DeadlineExceeded)
				require.ErrorIs(w, held.Unlock(ctx), context.DeadlineExceeded)
				_, err = NewMutex(s, "m").Queue(ctx)
				require.ErrorIs(w, err, context.DeadlineExceeded)
				require.Equal(w, 2*time.Second, time.Since(began))

				w.Start()
				w.Client("a").Heal()
				w.pass(20 * time.Second)
				w.empty("m")
				w.empty("held")
				w.allGone()
			})
		})
	}
}

// A caller that gets nil from Do was alone to the end.
func TestDoTellsOfALockThatEndedUnderTheWork(t *testing.T) {
	simulate(t, func(w *world) {
		for end, want := range map[string]error{"closed": ErrSessionClosed, "revoked": ErrRevoked} {
			s := w.session("a")
			err := NewMutex(s, "m").Do(w.ctx, func(ctx context.Context, _ *Lock) error {
				if end == "closed" {
					require.NoError(w, s.Close(w.ctx))
				} else {
					w.RevokeLease(s.Lease())
				}
				<-ctx.Done()
				require.ErrorIs(w, context.Cause(ctx), want)
				return nil
			})
			require.ErrorIs(w, err, want)
		}
	})
}
