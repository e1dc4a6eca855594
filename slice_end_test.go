package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAWaiterWhoGivesUpInTheInstantOfTheHandoverLeaksNoLock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithTimeSlice(time.Minute))
		got, gaveUp := 0, 0
		for i := range 300 {
			held := w.lock(m)
			wait := start(w, m.Lock)
			wait.isWaiting()
			var after *pending[*Lock]
			if i%2 == 0 {
				after = start(w, m.Lock)
				after.isWaiting()
			}
			var both sync.WaitGroup
			both.Go(wait.cancel)
			both.Go(func() {
				if err := held.Unlock(w.ctx); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			l, err := wait.result()
			if err == nil {
				got++
				require.NoError(w, l.Unlock(w.ctx))
			} else {
				gaveUp++
				require.ErrorIs(w, err, context.Canceled)
				require.Nil(w, l)
			}
			if after != nil {
				require.NoError(w, after.get().Unlock(w.ctx))
			}
			l, err = m.TryLock(w.ctx)
			require.NoError(w, err, "nobody holds")
			require.NoError(w, l.Unlock(w.ctx))
			w.empty("m")
		}
		t.Logf("%d got it, %d gave up", got, gaveUp)
		w.allGone()
	})
}

func TestALossAfterAHandoverEndsThePresentHoldAndNoOther(t *testing.T) {
	for what, tc := range map[string]struct {
		happens   func(w *world, s *Session, l *Lock)
		causes    []error
		waiter    []error // nil: it lines up again
		notCaused []error
	}{
		"the lease is revoked": {
			happens: func(w *world, s *Session, l *Lock) { w.RevokeLease(s.Lease()) },
			causes:  []error{ErrLost, ErrRevoked}, waiter: []error{ErrLost, ErrRevoked}, notCaused: []error{ErrReleased, ErrEvicted},
		},
		"the key is deleted": {
			happens: func(w *world, s *Session, l *Lock) { w.DeleteKey(l.Key()) },
			causes:  []error{ErrLost, ErrEvicted}, notCaused: []error{ErrReleased, ErrRevoked},
		},
		"the session is closed": {
			happens: func(w *world, s *Session, l *Lock) { require.NoError(w, s.Close(w.ctx)) },
			causes:  []error{ErrSessionClosed}, waiter: []error{ErrSessionClosed}, notCaused: []error{ErrReleased},
		},
		"the client is closed": {
			happens: func(w *world, s *Session, l *Lock) { require.NoError(w, w.Client("a").Close()) },
			causes:  []error{ErrLost, ErrClientClosed}, waiter: []error{ErrSessionClosed}, notCaused: []error{ErrReleased},
		},
		"the lease expires": {
			happens: func(w *world, s *Session, l *Lock) { w.Client("a").Cut(); w.pass(ttl) },
			causes:  []error{ErrLost, ErrExpired}, waiter: []error{ErrLost, ErrExpired}, notCaused: []error{ErrReleased, ErrRevoked},
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				m := NewMutex(s, "m", WithTimeSlice(time.Hour))
				first := w.lock(m)
				waits := w.lockers(2, m)
				stranger := start(w, NewMutex(w.session("b"), "m").Lock)
				w.pass(time.Second)
				require.NoError(w, first.Unlock(w.ctx))
				second := waits[0].get()
				firstCtx, secondCtx := first.Context(), second.Context()
				w.pass(time.Second)
				require.NoError(w, second.Err())

				tc.happens(w, s, second)
				select {
				case <-second.Done():
				case <-time.After(time.Second):
					require.FailNow(w, "the hold goes on")
				}
				for _, err := range tc.causes {
					require.ErrorIs(w, second.Err(), err)
					require.ErrorIs(w, context.Cause(secondCtx), err)
					require.ErrorIs(w, second.Unlock(w.ctx), err)
				}
				for _, err := range tc.notCaused {
					require.NotErrorIs(w, second.Err(), err)
				}
				require.ErrorIs(w, first.Err(), ErrReleased)
				require.NotErrorIs(w, first.Err(), ErrLost)
				require.ErrorIs(w, context.Cause(firstCtx), ErrReleased)

				if tc.waiter != nil {
					waits[1].fails(tc.waiter...)
				}
				w.Client("a").Heal()
				l := stranger.get()
				require.Greater(w, l.Token(), second.Token())
				if tc.waiter == nil {
					waits[1].isWaiting()
				}
				require.NoError(w, l.Unlock(w.ctx))
				if tc.waiter == nil {
					third := waits[1].get()
					require.Greater(w, third.Token(), l.Token())
					require.NoError(w, third.Unlock(w.ctx))
				}
			})
		})
	}
}

// It takes a while to find out why a key is gone. The holder goes on holding meanwhile, but no caller
// may be granted a hold on a missing key: another session may have the lock.
func TestAKeyKnownToBeGoneIsNotHandedOver(t *testing.T) {
	for what, gone := range map[string]func(w *world, s *Session, l *Lock){
		"deleted": func(w *world, _ *Session, l *Lock) { w.DeleteKey(l.Key()) },
		"revoked": func(w *world, s *Session, _ *Lock) { w.RevokeLease(s.Lease()) },
	} {
		t.Run(what, func(t *testing.T) {
			simulateEven(t, func(w *world) {
				s := w.session("a")
				m := NewMutex(s, "m", WithTimeSlice(time.Hour))
				held := w.lock(m)
				wait := start(w, m.Lock)
				stranger := start(w, NewMutex(w.session("b"), "m").Lock)
				w.pass(time.Second)
				w.every("a", simetcd.Action{DelayReply: 400 * time.Millisecond}, simetcd.LeaseKeepAlive)
				gone(w, s, held)
				l := stranger.get()
				w.pass(100 * time.Millisecond)

				_ = held.Unlock(w.ctx)
				synctest.Wait()
				select {
				case <-wait.done:
					if wait.err == nil {
						require.ErrorIs(w, wait.value.Err(), ErrLost, "granted in memory while a stranger holds, with the token %d after %d",
							wait.value.Token(), l.Token())
					}
				default:
				}
				w.Intercept(nil)
				require.NoError(w, l.Unlock(w.ctx))
				if next, err := wait.result(); err == nil {
					_ = next.Unlock(w.ctx)
				}
				w.allGone()
			})
		})
	}
}

func TestATryLockIsRefusedWhileAGoroutineHoldsAndGrantedAfterTheLastUnlock(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(time.Minute))
		refused := func() {
			require.Empty(w, requests(w.Client("a"), func() {
				_, err := m.TryLock(w.ctx)
				require.ErrorIs(t, err, ErrLocked)
			}))
		}
		for range 50 {
			held := w.lock(m)
			refused()
			wait := start(w, m.Lock)
			wait.isWaiting()
			refused()
			require.NoError(w, held.Unlock(w.ctx))
			refused() // also before the other goroutine has run
			held = wait.get()
			refused()
			require.NoError(w, held.Unlock(w.ctx))
			l, err := m.TryLock(w.ctx)
			require.NoError(w, err)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}

func TestNothingIsHandedOverAfterTheDeadline(t *testing.T) {
	for _, offset := range []time.Duration{-time.Second, -time.Millisecond, -1, 0, 1, time.Millisecond, time.Second} {
		t.Run(offset.String(), func(t *testing.T) {
			simulate(t, func(w *world) {
				m := NewMutex(w.session("a"), "m", WithTimeSlice(time.Hour))
				held := w.lock(m)
				waits := w.lockers(2, m)
				w.Client("a").Cut()
				deadline := held.Deadline()
				time.Sleep(time.Until(deadline) + offset)
				err := held.Unlock(w.ctx)
				if offset < 0 {
					require.NoError(w, err, "no etcd is needed for it")
					next := waits[0].get()
					require.NoError(w, next.Err())
					require.Equal(w, deadline, next.Deadline())
					<-next.Done()
					require.False(w, time.Now().After(deadline), "it has the lease's own deadline")
					require.ErrorIs(w, next.Err(), ErrExpired)
					require.ErrorIs(w, next.Unlock(w.ctx), ErrExpired)
				} else {
					require.ErrorIs(w, err, ErrExpired)
					waits[0].fails(ErrLost, ErrExpired)
				}
				waits[1].fails(ErrLost, ErrExpired)
				w.Client("a").Heal()
				w.pass(ttl)
				require.NoError(w, w.lock(m).Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// After a machine has slept its timers are late; the clock is right.
func TestNothingIsHandedOverOnAMachineThatHasSleptThroughTheDeadline(t *testing.T) {
	simulate(t, func(w *world) {
		var slept atomic.Int64
		bubble := bubbleClock()
		s := w.session("a", withClock(func() time.Duration { return bubble() + time.Duration(slept.Load()) }))
		m := NewMutex(s, "m", WithTimeSlice(time.Hour))
		kept := NewMutex(s, "kept", WithRetention(time.Hour))
		require.NoError(w, w.lock(kept).Unlock(w.ctx))
		held := w.lock(m)
		wait := w.lockers(1, m)[0]
		w.pass(50 * time.Millisecond)

		slept.Store(int64(ttl)) // and no timer has fired
		try := start(w, kept.Lock)
		require.ErrorIs(w, held.Unlock(w.ctx), ErrExpired)
		wait.fails(ErrLost, ErrExpired)
		require.NoError(w, try.get().Unlock(w.ctx), "under the next lease")
		require.NotEqual(w, s.Lease(), held.of.Lease().ID())
		require.NotEqual(w, held.of.Lease(), try.value.of.Lease())
		w.allGone()
	})
}

// The last Unlock deletes the key itself, while the session watches over it: whatever
// else ends the hold meanwhile must not get in its way. Meant for the race detector too.
func TestAnEndDuringTheLastUnlockIsSortedOut(t *testing.T) {
	for what, end := range map[string]func(w *world, s *Session, key string){
		"closed":  func(w *world, s *Session, _ string) { require.NoError(w, s.Close(w.timeout(time.Minute))) },
		"revoked": func(w *world, s *Session, _ string) { w.RevokeLease(s.Lease()) },
		"deleted": func(w *world, _ *Session, key string) { w.DeleteKey(key) },
		"revoked, and renewals are slow": func(w *world, s *Session, _ string) {
			w.every("a", simetcd.Action{DelayReply: roundTrip}, simetcd.LeaseKeepAlive)
			w.RevokeLease(s.Lease())
		},
		"deleted, and renewals are slow": func(w *world, _ *Session, key string) {
			w.every("a", simetcd.Action{DelayReply: roundTrip}, simetcd.LeaseKeepAlive)
			w.DeleteKey(key)
		},
		"expired": func(w *world, s *Session, _ string) {
			s.engine.LastLease().End(ErrExpired)
		},
	} {
		for offset := -4 * roundTrip; offset <= 3*roundTrip; offset += roundTrip / 10 {
			t.Run(fmt.Sprint(what, ", ", offset), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					s, b := w.session("a"), NewMutex(w.session("b"), "m")
					m := NewMutex(s, "m")
					l := w.lock(m)
					w.pass(time.Second) // the key is watched
					at := time.Now().Add(5 * roundTrip)
					unlock := start(w, func(ctx context.Context) (any, error) {
						time.Sleep(time.Until(at))
						return nil, l.Unlock(ctx)
					})
					time.Sleep(time.Until(at.Add(offset)))
					end(w, s, l.Key())
					if _, err := unlock.result(); err != nil {
						require.True(w, errors.Is(err, ErrLost) || errors.Is(err, ErrSessionClosed) || errors.Is(err, ErrExpired), "%v", err)
					}
					require.LessOrEqual(w, time.Since(at), 10*roundTrip)
					if what == "expired" {
						w.pass(ttl)
					}
					w.pass(100 * time.Millisecond)
					w.empty("m")
					lb := w.lock(b)
					require.Greater(w, lb.Token(), l.Token())
					require.NoError(w, lb.Unlock(w.ctx))
				})
			})
		}
	}
}

// The lease's deadline comes while the deletion is not answered.
func TestTheDeadlineDuringTheLastUnlockEndsIt(t *testing.T) {
	for before := 5 * time.Second; before > 0; before -= 300 * time.Millisecond {
		simulate(t, func(w *world) {
			m := NewMutex(w.session("a"), "m")
			l := w.lock(m)
			w.pass(time.Second)
			w.Client("a").Cut()
			deadline := l.Deadline()
			time.Sleep(time.Until(deadline) - before)
			err := l.Unlock(w.ctx)
			require.ErrorIs(w, err, ErrExpired)
			require.False(w, time.Now().Before(deadline))
			require.LessOrEqual(w, time.Since(deadline), 10*time.Millisecond)
			w.Client("a").Heal()
			w.pass(ttl)
			w.empty("m")
			require.NoError(w, w.lock(m).Unlock(w.ctx))
			w.allGone()
		})
	}
}
