package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAnotherOwnerDoesNotTakeTheKeptKeyAsItIs(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		x := NewMutex(s, "m", WithRetention(time.Hour), WithOwner("x"))
		y := NewMutex(s, "m", WithRetention(time.Hour), WithOwner("y"))
		token := w.keep(x)
		for i, m := range []*Mutex{y, x, y, x} {
			acquire := m.Lock
			if i > 1 {
				acquire = m.TryLock
			}
			l, err := acquire(w.ctx)
			require.NoError(w, err)
			require.Greater(w, l.Token(), token)
			token = l.Token()
			entries, err := m.Queue(w.ctx)
			require.NoError(w, err)
			require.Equal(w, m.asks.Owner, entries[0].Owner)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}

func TestAWaiterWhoGivesUpInTheInstantOfTheUnlockLeavesTheKeyKept(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Second), WithTimeSlice(time.Hour))
		for range 200 {
			held := w.lock(m)
			wait := start(w, m.Lock)
			wait.isWaiting()
			var both sync.WaitGroup
			both.Go(wait.cancel)
			both.Go(func() {
				if err := held.Unlock(w.ctx); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			if l, err := wait.result(); err == nil {
				require.NoError(w, l.Unlock(w.ctx))
			}
			synctest.Wait()
			l, err := m.TryLock(w.ctx)
			require.NoError(w, err, "nobody holds")
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.pass(2 * time.Second)
		w.empty("m")
		w.allGone()
	})
}

// Two processes that lock a and b in opposite order get into each other's way, as
// with any lock, until one gives up. What they merely keep must never be in the way.
func TestKeptKeysDoNotMakeADeadlock(t *testing.T) {
	for seed := range uint64(10) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			var both sync.WaitGroup
			var inside [2]atomic.Int32
			var longest time.Duration
			for i := range 2 {
				s := w.session(fmt.Sprint("client-", i))
				names := []string{"a", "b"}
				if i == 1 {
					slices.Reverse(names)
				}
				var mutexes []*Mutex
				for _, name := range names {
					mutexes = append(mutexes, NewMutex(s, name, WithRetention(time.Hour), WithTimeSlice(time.Hour)))
				}
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				both.Go(func() {
					for range 20 {
						for came := time.Now(); ; {
							if w.lockBoth(mutexes, r, &inside) {
								if i == 0 {
									longest = max(longest, time.Since(came))
								}
								break
							}
							time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
							if time.Since(came) > time.Minute {
								t.Errorf("seed %d: client %d has not got both for a minute", seed, i)
								return
							}
						}
					}
				})
			}
			both.Wait()
			t.Logf("both after at most %v", longest)
			w.allGone()
		})
	}
}

// lockBoth locks two mutexes, waits for the second one only for a while, and tells
// whether it has had both.
func (w *world) lockBoth(mutexes []*Mutex, r *rand.Rand, inside *[2]atomic.Int32) bool {
	first, err := mutexes[0].Lock(w.ctx)
	if err != nil {
		w.Error(err)
		return true
	}
	defer func() {
		if err := first.Unlock(w.ctx); err != nil {
			w.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.Int64N(int64(100*time.Millisecond))))
	defer cancel()
	second, err := mutexes[1].TryLock(ctx)
	if errors.Is(err, ErrLocked) {
		second, err = mutexes[1].Lock(ctx)
	}
	if err != nil {
		return false
	}
	for i := range inside {
		if inside[i].Add(1) != 1 {
			w.Error("two hold")
		}
	}
	time.Sleep(time.Millisecond)
	for i := range inside {
		inside[i].Add(-1)
	}
	if err := second.Unlock(w.ctx); err != nil {
		w.Error(err)
	}
	return true
}

// As before, but what each keeps at the start is what the other needs: with Lock
// alone, and no caller gives up.
func TestAKeptKeyIsNoReasonToWaitForEver(t *testing.T) {
	simulateEven(t, func(w *world) {
		sa, sb := w.session("a"), w.session("b")
		mutex := func(s *Session, name string) *Mutex {
			return NewMutex(s, name, WithRetention(time.Hour), WithTimeSlice(time.Hour))
		}
		w.keep(mutex(sa, "1"))
		w.keep(mutex(sb, "2"))
		crosswise := func(s *Session, name string) *pending[*Lock] { return start(w, mutex(s, name).Lock) }
		came := time.Now()
		b1, a2 := crosswise(sb, "1"), crosswise(sa, "2")
		l1, l2 := b1.get(), a2.get()
		require.LessOrEqual(w, b1.at.Sub(came), 4*roundTrip)
		require.LessOrEqual(w, a2.at.Sub(came), 4*roundTrip)
		require.NoError(w, l1.Unlock(w.ctx))
		require.NoError(w, l2.Unlock(w.ctx))
		w.allGone()
	})
}

// Whatever goes on in the instant in which the session ends, or the key: nothing of it
// stays, in etcd or in the process.
func TestAnEndAroundTheUnlockLeavesNothing(t *testing.T) {
	for what, end := range map[string]func(w *world, s *Session, key string){
		"closed":   func(w *world, s *Session, _ string) { require.NoError(w, s.Close(w.timeout(time.Minute))) },
		"orphaned": func(w *world, s *Session, _ string) { w.RevokeLease(w.orphan(s)) },
		"revoked":  func(w *world, s *Session, _ string) { w.RevokeLease(s.Lease()) },
		"deleted":  func(w *world, _ *Session, key string) { w.DeleteKey(key) },
	} {
		for offset := -roundTrip; offset <= 4*roundTrip; offset += roundTrip / 10 {
			t.Run(fmt.Sprint(what, ", ", offset), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					s, b := w.session("a"), NewMutex(w.session("b"), "m")
					m := NewMutex(s, "m", WithRetention(time.Hour))
					l := w.lock(m)
					unlocked := time.Now().Add(roundTrip)
					time.AfterFunc(roundTrip, func() { _ = l.Unlock(w.ctx) })
					time.Sleep(time.Until(unlocked.Add(offset)))
					end(w, s, l.Key())
					w.pass(500 * time.Millisecond)
					w.empty("m")
					lb := w.lock(b)
					require.Greater(w, lb.Token(), l.Token())
					if s.Err() == nil {
						try := start(w, m.Lock)
						w.pass(100 * time.Millisecond)
						try.isWaiting()
						try.cancel()
						try.fails(context.Canceled)
					}
					require.NoError(w, lb.Unlock(w.ctx))
					w.pass(100 * time.Millisecond)
					w.empty("m")
				})
			})
		}
	}
}

// A Locker is used as a sync.Mutex is: often, and from many goroutines.
func TestALockerHandsOverInMemoryAndKeeps(t *testing.T) {
	simulateEven(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(time.Hour), WithRetention(time.Second))
		w.keep(m)
		n := 0
		require.Empty(w, requests(w.Client("a"), func() {
			var all sync.WaitGroup
			locker := m.Locker()
			for range 10 {
				all.Go(func() {
					for range 100 {
						locker.Lock()
						n++
						locker.Unlock()
					}
				})
			}
			all.Wait()
		}))
		require.Equal(w, 1000, n)
		w.pass(time.Second + roundTrip)
		w.empty("m")
		w.allGone()
	})
}

// The limit that WithRetention documents: no session notices a TryLock that is refused. A
// Lock gets at once what any number of them did not.
func TestAKeptKeyIsNotGivenUpForATryLock(t *testing.T) {
	simulateEven(t, func(w *world) {
		a := NewMutex(w.session("a"), "m", WithRetention(10*time.Second))
		b := NewMutex(w.session("b"), "m")
		for range 100 {
			w.keep(a)
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			w.pass(time.Second)
		}
		came := time.Now()
		require.NoError(w, w.lock(b).Unlock(w.ctx))
		require.LessOrEqual(w, time.Since(came), 5*roundTrip)

		w.keep(a)
		w.pass(10 * time.Second)
		l, err := b.TryLock(w.ctx)
		require.NoError(w, err, "after the idle time")
		require.NoError(w, l.Unlock(w.ctx))
		w.allGone()
	})
}
