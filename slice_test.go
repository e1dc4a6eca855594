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

// trip is how long a message takes one way, and roundTrip to an answer, in a world
// made by simulateEven.
const (
	trip      = time.Millisecond
	roundTrip = 2 * trip
)

// simulateEven is simulate with a network on which every message takes one trip, so
// that waits can be counted in round trips.
func simulateEven(t *testing.T, test func(w *world)) {
	t.Helper()
	simulateWith(t, simetcd.Config{Seed: 1, MinLatency: trip, MaxLatency: trip}, test)
}

// ended is a context that has ended already.
func (w *world) ended() context.Context {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	return ctx
}

// lockers makes n goroutines line up, one after the other.
func (w *world) lockers(n int, m *Mutex) []*pending[*Lock] {
	var waits []*pending[*Lock]
	for range n {
		waits = append(waits, start(w, m.Lock))
		synctest.Wait()
	}
	return waits
}

// busy is a number of goroutines that lock again as soon as they have unlocked.
type busy struct {
	all    sync.WaitGroup
	stop   chan struct{}
	inside *atomic.Int32 // callers that hold the name
	turns  []int
}

// keepBusy lets goroutines lock again and again, each for cs, until stopped.
func (w *world) keepBusy(n int, cs time.Duration, m *Mutex, inside *atomic.Int32) *busy {
	b := &busy{stop: make(chan struct{}), turns: make([]int, n), inside: inside}
	for i := range n {
		b.all.Go(func() {
			for {
				select {
				case <-b.stop:
					return
				default:
				}
				l, err := m.Lock(w.ctx)
				if err != nil {
					w.Errorf("lock: %v", err)
					return
				}
				if inside.Add(1) != 1 {
					w.Error("two hold")
				}
				time.Sleep(cs)
				b.turns[i]++
				inside.Add(-1)
				if err := l.Unlock(w.ctx); err != nil {
					w.Errorf("unlock: %v", err)
					return
				}
			}
		})
	}
	return b
}

// end stops the goroutines and returns how often each has held.
func (b *busy) end() []int {
	close(b.stop)
	b.all.Wait()
	return b.turns
}

// worstWait lets a stranger come again and again, and tells how long it had to wait at
// most.
func (w *world) worstWait(m *Mutex, rounds int, pause time.Duration, inside *atomic.Int32) (worst time.Duration) {
	w.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	for range rounds {
		w.pass(time.Duration(r.Int64N(int64(pause))))
		came := time.Now()
		l := w.lock(m)
		worst = max(worst, time.Since(came))
		require.EqualValues(w, 1, inside.Add(1))
		inside.Add(-1)
		require.NoError(w, l.Unlock(w.ctx))
	}
	return worst
}

// inTrips writes a wait as round trips above what it may take by itself.
func inTrips(wait, above time.Duration) string {
	return fmt.Sprintf("%v = %v + %.2f round trips", wait.Round(10*time.Microsecond), above, float64(wait-above)/float64(roundTrip))
}

func TestUnlockHandsOverInMemoryAtOnceAndInOrder(t *testing.T) {
	simulateEven(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithTimeSlice(time.Minute))
		held := w.lock(m)
		waits := w.lockers(10, m)
		token, key := held.Token(), held.Key()
		began := time.Now()
		require.Empty(w, requests(w.Client("a"), func() {
			for i, wait := range waits {
				for _, later := range waits[i:] {
					later.isWaiting()
				}
				before := held.Context()
				require.NoError(w, held.Unlock(w.ended()), "not even a context is asked")
				require.ErrorIs(w, context.Cause(before), ErrReleased)
				require.Zero(w, held.Deadline())

				next := wait.get()
				require.NoError(w, next.Err())
				require.NoError(w, next.Context().Err())
				require.Equal(w, token, next.Token())
				require.Equal(w, key, next.Key())
				require.ErrorIs(w, held.Unlock(w.ctx), ErrReleased)
				synctest.Wait()
				require.NoError(w, next.Err(), "an old handle does not release it")
				require.ErrorIs(w, held.Err(), ErrReleased)
				held = next
			}
		}), "no request at all")
		require.Equal(w, began, time.Now())
		require.Len(w, w.Keys("m/"), 1)

		require.Equal(w, "1 Txn", requests(w.Client("a"), func() { require.NoError(t, held.Unlock(w.ctx)) }), "the last one")
		w.empty("m")
		again := w.lock(m)
		require.Greater(w, again.Token(), token, "a tenure of its own")
		require.Equal(w, key, again.Key())
		require.ErrorIs(w, held.Unlock(w.ctx), ErrReleased)
		require.NoError(w, again.Err())
		require.NoError(w, again.Unlock(w.ctx))
		w.allGone()
	})
}

func TestEachHoldHasItsCallersValuesAndOnlyThose(t *testing.T) {
	type keyType struct{}
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(time.Minute))
		as := func(who string) func(context.Context) (*Lock, error) {
			return func(ctx context.Context) (*Lock, error) { return m.Lock(context.WithValue(ctx, keyType{}, who)) }
		}
		first := start(w, as("first")).get()
		wait := start(w, as("second"))
		wait.isWaiting()
		require.Equal(w, "first", first.Context().Value(keyType{}))
		require.NoError(w, first.Unlock(w.ctx))
		second := wait.get()
		require.Equal(w, "second", second.Context().Value(keyType{}))
		require.Equal(w, "first", first.Context().Value(keyType{}))
		require.NoError(w, second.Context().Err(), "the caller's context has ended, the hold has not")
		require.NoError(w, second.Unlock(w.ctx))
		w.allGone()
	})
}

// Meant for the race detector too.
func TestOldHandlesNeverReleaseALaterHold(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(3*time.Millisecond))
		var all sync.WaitGroup
		var inside atomic.Int32
		for i := range 6 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				var old []*Lock
				for range 30 {
					l, err := m.Lock(w.ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if inside.Add(1) != 1 {
						t.Error("two hold")
					}
					for _, o := range old {
						if err := o.Unlock(w.ctx); !errors.Is(err, ErrReleased) {
							t.Errorf("the second unlock says %v", err)
						}
					}
					time.Sleep(time.Duration(r.Int64N(int64(time.Millisecond))))
					if err := l.Err(); err != nil {
						t.Error(err)
					}
					inside.Add(-1)
					var both sync.WaitGroup
					var released atomic.Int32
					for range 2 {
						both.Go(func() {
							if l.Unlock(w.ctx) == nil {
								released.Add(1)
							}
						})
					}
					both.Wait()
					if released.Load() != 1 {
						t.Errorf("released %d times", released.Load())
					}
					old = append(old, l)
				}
			})
		}
		all.Wait()
		w.allGone()
	})
}

// The first Unlock after the slice goes through etcd, whether or not a stranger waits:
// that is not known here.
func TestASliceEnds(t *testing.T) {
	simulateEven(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(50*time.Millisecond))
		held := w.lock(m)
		waits := w.lockers(3, m)
		w.pass(49 * time.Millisecond)
		require.Empty(w, requests(w.Client("a"), func() { require.NoError(t, held.Unlock(w.ctx)) }))
		second := waits[0].get()
		w.pass(time.Millisecond)
		require.NoError(w, second.Unlock(w.ctx))
		third := waits[1].get()
		require.Greater(w, third.Token(), second.Token())
		w.pass(49 * time.Millisecond)
		require.NoError(w, third.Unlock(w.ctx), "a slice of its own")
		fourth := waits[2].get()
		require.Equal(w, third.Token(), fourth.Token())
		require.NoError(w, fourth.Unlock(w.ctx))
		w.allGone()
	})
}

// Up to three round trips come on top when it all falls badly: the stranger's own
// Unlock lets the others in while they are still setting up their wait (enter, then
// watch and look), and each of lining up, the others' Unlock and the news of it takes
// half of one.
func TestAStrangerWaitsForOneSliceAndOneCriticalSection(t *testing.T) {
	for _, slice := range []time.Duration{0, DefaultTimeSlice, 100 * time.Millisecond} {
		for _, cs := range []time.Duration{time.Millisecond, 7 * time.Millisecond} {
			t.Run(fmt.Sprint(slice, ", ", cs), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					var inside atomic.Int32
					b := w.keepBusy(5, cs, NewMutex(w.session("a"), "m", WithTimeSlice(slice)), &inside)
					w.pass(time.Second)
					worst := w.worstWait(NewMutex(w.session("b"), "m"), 200, 2*(slice+cs), &inside)
					turns := b.end()
					t.Logf("the stranger waits for at most %s; the others held %v times", inTrips(worst, slice+cs), turns)
					require.LessOrEqual(w, worst, slice+cs+3*roundTrip+100*time.Microsecond)
					for _, n := range turns {
						require.Positive(w, n)
						require.LessOrEqual(w, turns[0]-n, 1, "they take turns")
						require.GreaterOrEqual(w, turns[0]-n, -1)
					}
					w.allGone()
				})
			})
		}
	}
}

func TestAStrangerAmongBusySessionsWaitsForASliceOfEach(t *testing.T) {
	const slice, cs, sessions = DefaultTimeSlice, time.Millisecond, 3
	simulateEven(t, func(w *world) {
		var inside atomic.Int32
		var all []*busy
		for i := range sessions {
			all = append(all, w.keepBusy(5, cs, NewMutex(w.session(fmt.Sprint("a", i)), "m"), &inside))
		}
		w.pass(time.Second)
		worst := w.worstWait(NewMutex(w.session("b"), "m"), 200, 50*time.Millisecond, &inside)
		t.Logf("the stranger waits for at most %s", inTrips(worst, sessions*(slice+cs)))
		require.LessOrEqual(w, worst, sessions*(slice+cs)+3*roundTrip)
		sums := make([]int, sessions)
		for i, b := range all {
			for _, n := range b.end() {
				require.Positive(w, n)
				sums[i] += n
			}
		}
		t.Logf("the sessions held %v times", sums)
		for _, n := range sums {
			require.InEpsilon(w, sums[0], n, 0.1, "all alike")
		}
		w.allGone()
	})
}

func TestWithoutASliceSessionsTakeStrictTurns(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewMutex(w.session("a"), "m", WithTimeSlice(0))
		b := NewMutex(w.session("b"), "m", WithTimeSlice(0))
		held := w.lock(a)
		waitsA := w.lockers(3, a)
		w.pass(10 * time.Millisecond)
		waitsB := w.lockers(3, b)
		w.pass(10 * time.Millisecond)
		client := "a"
		for i, wait := range []*pending[*Lock]{waitsB[0], waitsA[0], waitsB[1], waitsA[1], waitsB[2], waitsA[2]} {
			sent := requests(w.Client(client), func() { require.NoError(t, held.Unlock(w.ctx)) })
			require.Contains(w, sent, "Txn", "unlock %d", i)
			next := wait.get()
			require.Greater(w, next.Token(), held.Token())
			require.NotEqual(w, held.Key(), next.Key())
			held = next
			client = map[string]string{"a": "b", "b": "a"}[client]
		}
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

func TestAKeyIsNotHandedOnUnderAnothersName(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		x := NewMutex(s, "m", WithTimeSlice(time.Minute), WithOwner("x"))
		y := NewMutex(s, "m", WithTimeSlice(time.Minute), WithOwner("y"))
		first := w.lock(x)
		waitY := w.lockers(1, y)[0]
		waitX := w.lockers(2, x)
		w.pass(10 * time.Millisecond)
		stranger := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(10 * time.Millisecond)

		owner := func() string {
			entries, err := x.Queue(w.ctx)
			require.NoError(w, err)
			return entries[0].Owner
		}
		require.Equal(w, "x", owner())
		require.NoError(w, first.Unlock(w.ctx))
		l := stranger.get()
		waitY.isWaiting()
		require.NoError(w, l.Unlock(w.ctx))
		second := waitY.get()
		require.Equal(w, "y", owner())
		require.Greater(w, second.Token(), l.Token())
		require.NoError(w, second.Unlock(w.ctx))
		third := waitX[0].get()
		require.Equal(w, "x", owner())
		require.Greater(w, third.Token(), second.Token())
		require.NoError(w, third.Unlock(w.ctx))
		fourth := waitX[1].get()
		require.Equal(w, third.Token(), fourth.Token(), "of one owner again")
		require.NoError(w, fourth.Unlock(w.ctx))
		w.allGone()
	})
}

// A candidate with a proposal that equals the owner of a mutex is a different identity: the key must
// have the proposal when the candidate leads.
func TestAMutexDoesNotHandItsKeyToACandidateOfTheSameWord(t *testing.T) {
	for what, opts := range map[string][]MutexOption{
		"handed over": {WithTimeSlice(time.Minute)},
		"kept":        {WithRetention(time.Minute)},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				m := NewMutex(s, "m", append(opts, WithOwner("host-a"))...)
				e := NewElection(s, "m")
				campaign := func(ctx context.Context) (*Term, error) { return e.Campaign(ctx, "host-a") }
				held := w.lock(m)
				var wait *pending[*Term]
				if what == "handed over" {
					wait = start(w, campaign)
					wait.isWaiting()
				}
				require.NoError(w, held.Unlock(w.ctx))
				if what == "kept" {
					wait = start(w, campaign)
				}
				term := wait.get()
				require.Equal(w, "host-a", string(w.Get(term.Key()).Value))
				require.NoError(w, term.Resign(w.ctx))
				w.allGone()
			})
		})
	}
}
