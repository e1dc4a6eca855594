package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r, own, other := w.read(a), w.read(a), w.read(b)
		writer := start(w, c.Lock)
		w.pass(time.Second)
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		late := start(w, b.RLock)
		lateOwn := start(w, a.RLock)
		w.pass(time.Second)
		up.isWaiting()
		late.isWaiting()
		lateOwn.isWaiting()
		w.unlock(own.Unlock)
		w.pass(time.Second)
		up.isWaiting()
		require.NoError(w, r.Err(), "it reads meanwhile")
		w.unlock(other.Unlock)
		l := up.get()
		require.ErrorIs(w, r.Err(), ErrReleased)
		require.NoError(w, l.Err())
		w.pass(time.Second)
		writer.isWaiting()
		late.isWaiting()
		lateOwn.isWaiting()
		w.unlock(l.Unlock)
		w.unlock(writer.get().Unlock)
		w.unlock(late.get().Unlock)
		w.unlock(lateOwn.get().Unlock)
		w.empty("m")
		w.allGone()
	})
}

// trap D5
func TestOfTwoUpgradesOneIsToldAtOnce(t *testing.T) {
	for _, session := range []string{"a", "b"} {
		simulate(t, func(w *world) {
			a := NewRWMutex(w.session("a"), "m")
			other := a
			if session != "a" {
				other = NewRWMutex(w.session(session), "m")
			}
			r1, r2 := w.read(a), w.read(other)
			up := start(w, r1.Upgrade)
			w.pass(time.Second)
			began := time.Now()
			_, err := r2.Upgrade(w.ctx)
			require.ErrorIs(w, err, ErrUpgradeConflict)
			require.Less(w, time.Since(began), 100*time.Millisecond)
			require.NoError(w, r2.Err(), "it reads as before")
			up.isWaiting()
			w.unlock(r2.Unlock)
			w.unlock(up.get().Unlock)
			w.empty("m")
			w.allGone()
		})
	}
}

// trap D5, at the same instant, and with answers that are lost: one goes on, all others are
// told.
func TestOfUpgradesAtTheSameInstantOneGoesOn(t *testing.T) {
	for seed := range uint64(60) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			type try struct {
				r  *ReadLock
				up *pending[*WriteLock]
			}
			var tries []try
			for i := range 4 {
				m := NewRWMutex(w.session(fmt.Sprint("s", i)), "m")
				tries = append(tries, try{r: w.read(m)})
			}
			if seed%3 == 0 {
				w.next("s1", simetcd.Txn, simetcd.Action{DropReply: true})
			}
			var waiting *pending[*WriteLock]
			if seed%2 == 0 {
				waiting = start(w, NewRWMutex(w.session("writer"), "m").Lock)
				w.pass(time.Duration(seed) * time.Millisecond / 2)
			}
			for i := range tries {
				tries[i].up = start(w, tries[i].r.Upgrade)
			}
			w.pass(10 * time.Second)
			var told, goesOn []try
			for _, try := range tries {
				select {
				case <-try.up.done:
					try.up.fails(ErrUpgradeConflict)
					told = append(told, try)
				default:
					goesOn = append(goesOn, try)
				}
			}
			require.Len(w, goesOn, 1)
			for _, try := range told {
				w.unlock(try.r.Unlock)
			}
			w.unlock(goesOn[0].up.get().Unlock)
			if waiting != nil {
				w.unlock(waiting.get().Unlock)
			}
			w.empty("m")
			w.allGone()
		})
	}
}

func TestACancelledUpgradeLeavesTheReadLock(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		r, other := w.read(a), w.read(b)
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		late, own := start(w, b.RLock), start(w, a.RLock)
		w.pass(time.Second)
		late.isWaiting()
		own.isWaiting()
		up.cancel()
		up.fails(context.Canceled)
		require.NoError(w, r.Err())
		w.unlock(late.get().Unlock)
		w.unlock(own.get().Unlock)
		// At once again, as the mark is being taken back: that is no conflict.
		again := start(w, r.Upgrade)
		w.pass(time.Second)
		again.cancel()
		again.fails(context.Canceled)
		again = start(w, r.Upgrade)
		w.unlock(other.Unlock)
		w.unlock(again.get().Unlock)
		w.allGone()
	})
}

// Readers of other sessions stop sharing a key without asking, because they would block the upgrade
// without end.
func TestAnUpgradeDoesNotStarveBehindReaders(t *testing.T) {
	for _, younger := range []bool{false, true} {
		simulate(t, func(w *world) {
			const slice = 50 * time.Millisecond
			a := NewRWMutex(w.session("a"), "m")
			var r *ReadLock
			if younger {
				r = w.read(a)
			}
			stop := make(chan struct{})
			var readers sync.WaitGroup
			sessions := []*Session{w.session("reader-0"), w.session("reader-1")}
			for i := range 4 {
				m := NewRWMutex(sessions[i%2], "m", WithTimeSlice(slice))
				readers.Go(func() {
					time.Sleep(time.Duration(i) * 3 * time.Millisecond)
					hold := w.read(m)
					for {
						select {
						case <-stop:
							w.unlock(hold.Unlock)
							return
						default:
						}
						time.Sleep(10 * time.Millisecond)
						ctx, cancel := context.WithTimeout(w.ctx, 30*time.Millisecond)
						next, err := m.RLock(ctx)
						cancel()
						w.unlock(hold.Unlock)
						if err != nil {
							next = w.read(m)
						}
						hold = next
					}
				})
			}
			w.pass(time.Second)
			if !younger {
				r = w.read(a)
			}
			for range 20 {
				began := time.Now()
				l := start(w, r.Upgrade).get()
				require.Less(w, time.Since(began), slice+100*time.Millisecond)
				w.pass(10 * time.Millisecond)
				r = start(w, l.Downgrade).get()
				w.pass(100 * time.Millisecond)
			}
			close(stop)
			w.unlock(r.Unlock)
			readers.Wait()
			w.allGone()
		})
	}
}

// Readers that come and go change the queue all the time.
func TestAnUpgradeGetsItsMarkWhileTheQueueChanges(t *testing.T) {
	simulate(t, func(w *world) {
		r := w.read(NewRWMutex(w.session("a"), "m"))
		w.Client("a").SetLatency(20*time.Millisecond, 20*time.Millisecond)
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for i := range 8 {
			m := NewRWMutex(w.session(fmt.Sprint("reader-", i)), "m")
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						w.unlock(w.read(m).Unlock)
					}
				}
			})
		}
		w.pass(100 * time.Millisecond)
		began := time.Now()
		l := start(w, r.Upgrade).get()
		require.Less(w, time.Since(began), 300*time.Millisecond)
		w.unlock(l.Unlock)
		close(stop)
		readers.Wait()
		w.allGone()
	})
}

func TestAnUpgradeAndTheWritersAndReadersInLine(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r := w.read(a)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		behind := start(w, c.RLock)
		w.pass(time.Second)
		// There is no other holder: readers behind the writer are not waited for.
		l := start(w, r.Upgrade).get()
		// The writer gives up. The readers behind it are not admitted beside the upgraded one.
		writer.cancel()
		writer.fails(context.Canceled)
		w.pass(time.Second)
		behind.isWaiting()
		w.unlock(l.Unlock)
		w.unlock(behind.get().Unlock)
		w.allGone()
	})
}

// The writer that was to be the bound gives up between the intent and its bound.
func TestAnUpgradeWhoseBoundGivesUp(t *testing.T) {
	for ms := range 12 {
		simulate(t, func(w *world) {
			a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
			r := w.read(a)
			writer := start(w, b.Lock)
			w.pass(time.Second)
			behind := start(w, c.RLock)
			w.pass(time.Second)
			up := start(w, r.Upgrade)
			time.Sleep(time.Duration(ms) * 500 * time.Microsecond)
			writer.cancel()
			w.pass(time.Second)
			alone := func(h hold) {
				w.Helper()
				require.NoError(w, h.Err())
			}
			select {
			case <-up.done:
				l := up.get()
				behind.isWaiting()
				alone(l.hold)
				w.unlock(l.Unlock)
				w.unlock(behind.get().Unlock)
			case <-behind.done: // it was in front of the mark, and is waited for
				up.isWaiting()
				alone(behind.get().hold)
				w.unlock(behind.get().Unlock)
				w.unlock(up.get().Unlock)
			}
			if l, err := writer.result(); err == nil {
				w.unlock(l.Unlock)
			}
			w.allGone()
		})
	}
}

func TestWhatEndsAnUpgrade(t *testing.T) {
	type scene struct {
		*world
		s *Session
		r *ReadLock
	}
	cases := map[string]struct {
		end  func(scene)
		told error
	}{
		"its own release": {func(s scene) { s.unlock(s.r.Unlock) }, ErrReleased},
		"an eviction":     {func(s scene) { s.DeleteKey(s.r.Key()) }, ErrEvicted},
		"an overwritten key": {func(s scene) {
			s.PutKey(s.r.Key(), "{}", s.s.Lease())
		}, ErrEvicted},
		"a revoked lease": {func(s scene) { s.RevokeLease(s.s.Lease()) }, ErrRevoked},
		"an expired lease": {func(s scene) {
			s.Client("a").Cut()
			s.pass(2 * ttl)
			s.Client("a").Heal()
		}, ErrExpired},
		"a close": {func(s scene) { require.NoError(s, s.s.Close(s.ctx)) }, ErrSessionClosed},
		"an orphan": {func(s scene) {
			id, err := s.s.Orphan(s.ctx)
			require.NoError(s, err)
			kv := s.Get(s.r.Key())
			require.NotNil(s, kv, "what is held is left")
			require.Contains(s, string(kv.Value), `"shared"`, "and as what it was")
			s.RevokeLease(id)
		}, ErrOrphaned},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				r := w.read(NewRWMutex(s, "m"))
				other := w.read(NewRWMutex(w.session("b"), "m"))
				up := start(w, r.Upgrade)
				w.pass(time.Second)
				up.isWaiting()
				test.end(scene{w, s, r})
				up.fails(test.told)
				if !errors.Is(test.told, ErrReleased) && !errors.Is(test.told, ErrSessionClosed) {
					require.ErrorIs(w, up.err, ErrLost)
				}
				w.pass(time.Second)
				require.ErrorIs(w, r.Err(), test.told)
				_, err := r.Upgrade(w.ctx)
				require.ErrorIs(w, err, test.told)
				w.unlock(start(w, NewRWMutex(w.session("c"), "m").RLock).get().Unlock) // others come in again
				w.unlock(other.Unlock)
				w.pass(time.Second)
				w.empty("m")
				w.allGone()
			})
		})
	}
}

// trap A4, of the mark: the answer is lost, or the request comes late, when the mark has been
// taken back.
func TestAnUpgradeWhoseRequestsAreNotAnswered(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"lost answer":  {DropReply: true},
		"lost request": {DropRequest: true},
		"late answer":  {DelayReply: 5 * time.Second},
		"late request": {DelayRequest: 5 * time.Second},
	} {
		for n := 1; n <= 3; n++ {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				simulate(t, func(w *world) {
					a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
					r, other := w.read(a), w.read(b)
					w.first(n, "a", simetcd.Txn, act)
					up := start(w, r.Upgrade)
					w.pass(time.Second)
					up.cancel()
					up.fails(context.Canceled)
					late := start(w, b.RLock).get() // the mark has been taken back
					w.pass(20 * time.Second)
					w.unlock(start(w, b.RLock).get().Unlock) // and no other one has come
					w.unlock(late.Unlock)
					w.unlock(other.Unlock)
					w.first(n, "a", simetcd.Txn, act)
					l := start(w, r.Upgrade).get()
					w.pass(20 * time.Second)
					_, err := b.TryRLock(w.ctx)
					require.ErrorIs(w, err, ErrLocked)
					require.NoError(w, l.Err())
					w.unlock(l.Unlock)
					w.pass(20 * time.Second)
					w.empty("m")
					w.allGone()
				})
			})
		}
	}
}

func TestAnUpgradeThatEtcdRefuses(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		r := w.read(a)
		w.next("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		_, err := r.Upgrade(w.ctx)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		require.NoError(w, r.Err())
		w.unlock(start(w, r.Upgrade).get().Unlock)
		w.allGone()
	})
}

// A read lock that was taken under the context of a write lock is one already.
func TestAnUpgradeWithinAWriteLock(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m", WithReentry(2))
		l := w.write(a)
		r, err := a.RLock(l.Context())
		require.NoError(w, err)
		up := start(w, r.Upgrade).get()
		require.ErrorIs(w, r.Err(), ErrReleased)
		w.unlock(l.Unlock)
		require.NoError(w, up.Err())
		require.Len(w, w.Keys("m/"), 1)
		w.unlock(up.Unlock)
		w.empty("m")
		w.allGone()
	})
}

func TestAWriteLockUnderAReadLockIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m", WithReentry(2))
		r := w.read(a)
		_, err := a.Lock(r.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.ErrorContains(w, err, "use Upgrade")
		within, err := a.RLock(r.Context())
		require.NoError(w, err)
		w.unlock(r.Unlock)
		require.NoError(w, within.Err())
		w.unlock(within.Unlock)
		w.empty("m")
		w.allGone()
	})
}
