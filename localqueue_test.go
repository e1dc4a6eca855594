package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// trap A1
func TestGoroutinesOfOneSessionExcludeEachOtherInTheOrderOfTheirCalls(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		held := w.lock(NewMutex(s, "m"))
		var waits []*pending[*Lock]
		for range 10 {
			waits = append(waits, start(w, NewMutex(s, "m").Lock)) // each with a mutex of its own
			synctest.Wait()
		}
		require.Len(w, w.Keys("m/"), 1, "one key for all of them")
		for i, wait := range waits {
			for _, later := range waits[i:] {
				later.isWaiting()
			}
			token := held.Token()
			require.NoError(w, held.Unlock(w.ctx))
			held = wait.get()
			require.GreaterOrEqual(w, held.Token(), token, "shared where it is handed over in memory")
		}
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

// trap A2: meant for the race detector.
func TestOneMutexAndOneLockCanBeUsedByManyGoroutines(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		for range 5 {
			l := w.lock(m)
			var all sync.WaitGroup
			var unlocked, refused atomic.Int32
			for range 8 {
				all.Go(func() {
					_, _, _ = l.Err(), l.Deadline(), l.Token()
					_, _, _ = l.Guard(), l.Context().Value(t), m.Name()
					if _, err := m.Queue(w.ctx); err != nil {
						t.Error(err)
					}
					switch err := l.Unlock(w.ctx); {
					case err == nil:
						unlocked.Add(1)
					case errors.Is(err, ErrReleased):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			require.EqualValues(w, 1, unlocked.Load(), "one of them has released it")
			require.EqualValues(w, 7, refused.Load())
		}
		w.allGone()
	})
}

// trap A3
func TestACallerWhoGivesUpDoesNotCostTheNextOneThePlace(t *testing.T) {
	simulate(t, func(w *world) {
		sb := w.session("b")
		held := w.lock(NewMutex(w.session("a"), "m"))
		b1 := start(w, NewMutex(sb, "m", WithOwner("first")).Lock)
		w.pass(10 * time.Millisecond)
		c := start(w, NewMutex(w.session("c"), "m").Lock)
		w.pass(10 * time.Millisecond)
		b2 := start(w, NewMutex(sb, "m", WithOwner("second")).Lock)
		w.pass(10 * time.Millisecond)
		place := w.Keys("m/")[1].CreateRevision

		b1.cancel()
		b1.fails(context.Canceled)
		w.pass(time.Second)
		require.Equal(w, place, w.Keys("m/")[1].CreateRevision, "the place is kept")
		require.NoError(w, held.Unlock(w.ctx))
		l := b2.get()
		c.isWaiting()
		entries, err := NewMutex(sb, "m").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "second", entries[0].Owner, "the key names the present owner of the place")
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, c.get().Unlock(w.ctx))
		w.allGone()
	})
}

// trap A3: a caller that comes while the last one gives up finds a working queue.
func TestACallerWhoComesWhileTheLastOneGivesUpIsServed(t *testing.T) {
	for offset := -3 * time.Millisecond; offset <= 3*time.Millisecond; offset += 200 * time.Microsecond {
		simulate(t, func(w *world) {
			m := NewMutex(w.session("b"), "m")
			held := w.lock(NewMutex(w.session("a"), "m"))
			first := start(w, m.Lock)
			w.pass(100 * time.Millisecond)
			time.AfterFunc(5*time.Millisecond, first.cancel)
			w.pass(5*time.Millisecond + offset)
			second := start(w, m.Lock)
			first.fails(context.Canceled)
			w.pass(time.Second)
			second.isWaiting()
			require.Len(w, w.Keys("m/"), 2)
			require.NoError(w, held.Unlock(w.ctx))
			require.NoError(w, second.get().Unlock(w.ctx))
			w.allGone()
		})
	}
}

func TestASessionsNextTurnComesAfterThoseWhoWait(t *testing.T) {
	simulate(t, func(w *world) {
		sa := w.session("a")
		held := w.lock(NewMutex(sa, "m"))
		again := start(w, NewMutex(sa, "m").Lock)
		w.pass(10 * time.Millisecond)
		other := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(10 * time.Millisecond)
		require.NoError(w, held.Unlock(w.ctx))
		l := other.get()
		w.pass(time.Second)
		again.isWaiting()
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, again.get().Unlock(w.ctx))
		w.allGone()
	})
}

func TestALostPlaceIsToldToAllWhoSharedIt(t *testing.T) {
	simulate(t, func(w *world) {
		sb := w.session("b")
		held := w.lock(NewMutex(w.session("a"), "m"))
		var waits []*pending[*Lock]
		for range 3 {
			waits = append(waits, start(w, NewMutex(sb, "m").Lock))
			synctest.Wait()
		}
		w.pass(time.Second)
		require.True(w, w.DeleteKey(string(w.Keys("m/")[1].Key)))
		for _, wait := range waits {
			wait.fails(ErrLost, ErrEvicted)
		}
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, w.lock(NewMutex(sb, "m")).Unlock(w.ctx), "the session goes on")
		w.allGone()
	})
}

// trap C9: the loop of a worker. A caller without a place under the lost lease loses none.
func TestALockAfterALossWaitsForTheNewLease(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		for range 20 {
			l := w.lock(m)
			next := start(w, func(ctx context.Context) (*Lock, error) {
				<-l.Done()
				return m.Lock(ctx)
			})
			w.pass(500 * time.Millisecond)
			require.True(w, w.RevokeLease(s.Lease()))
			again := next.get()
			require.Greater(w, again.Token(), l.Token())
			require.NoError(w, again.Unlock(w.ctx))
		}
		w.allGone()
	})
}

func TestATryLockOfASessionThatWaitsIsRefusedWithoutARequest(t *testing.T) {
	simulate(t, func(w *world) {
		sb := w.session("b")
		held := w.lock(NewMutex(w.session("a"), "m"))
		wait := start(w, NewMutex(sb, "m").Lock)
		w.pass(100 * time.Millisecond)
		require.Empty(w, requests(w.Client("b"), func() {
			_, err := NewMutex(sb, "m").TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		}))
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, wait.get().Unlock(w.ctx))
	})
}

// Found by the tests on a real cluster: the line was still being put away.
func TestATryLockRightAfterAnUnlockIsGranted(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		for range 100 {
			l, err := m.TryLock(w.ctx)
			require.NoError(w, err)
			require.NoError(w, l.Unlock(w.ctx))
		}
	})
}

// A session that used many names once must not remember them all.
func TestALineIsForgottenWhenNobodyIsInIt(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for i := range 20 {
			require.NoError(w, w.lock(NewMutex(s, fmt.Sprintf("a/b/%d", i))).Unlock(w.ctx))
		}
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		_, err := NewMutex(s, "unsure").Lock(w.timeout(time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		w.pass(20 * time.Second)
		require.Zero(w, s.manager.Snapshot().Queues)
		require.Zero(w, s.manager.Snapshot().Names)
	})
}

// TestACrowdNeverHoldsTwice lets many goroutines of several sessions lock again and
// again, and give up at random. The race detector sees whether one hold's writes
// are ordered before the next one's within a session; the counter sees the rest.
func TestACrowdNeverHoldsTwice(t *testing.T) {
	for seed := range uint64(5) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			var (
				crowd            sync.WaitGroup
				inside           atomic.Int32
				mu               sync.Mutex
				last             int64
				holder           int // the session that held last; it may hand its token on
				granted, gaveUp  int
				refused, rounds  int
				sessions, people = 4, 5
			)
			for i := range sessions {
				s := w.session(fmt.Sprint("client-", i))
				for j := range people {
					r := rand.New(rand.NewPCG(seed, uint64(i*people+j)))
					crowd.Go(func() {
						m := NewMutex(s, "m")
						for range 15 {
							ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.Int64N(int64(500*time.Millisecond))))
							acquire := m.Lock
							if r.IntN(5) == 0 {
								acquire = m.TryLock
							}
							l, err := acquire(ctx)
							mu.Lock()
							rounds++
							switch {
							case err == nil:
								granted++
								if n := inside.Add(1); n != 1 {
									t.Errorf("%d hold", n)
								}
								if l.Token() < last || l.Token() == last && i != holder {
									t.Errorf("token %d after %d", l.Token(), last)
								}
								last, holder = l.Token(), i
							case errors.Is(err, context.DeadlineExceeded): // and ErrLocked as well, if it was in line
								gaveUp++
							case errors.Is(err, ErrLocked):
								refused++
							default:
								t.Error(err)
							}
							mu.Unlock()
							if err == nil {
								time.Sleep(time.Duration(r.Int64N(int64(30 * time.Millisecond))))
								inside.Add(-1)
								if err := l.Unlock(w.ctx); err != nil {
									t.Error(err)
								}
							}
							cancel()
						}
					})
				}
			}
			crowd.Wait()
			require.Equal(w, sessions*people*15, rounds)
			require.Positive(w, granted)
			require.Positive(w, gaveUp)
			require.Positive(w, refused)
			w.pass(15 * time.Second)
			w.empty("m")
			w.allGone()
		})
	}
}
