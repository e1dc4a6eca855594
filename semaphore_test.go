package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// permits is a call of Acquire, to be started.
func (m *Semaphore) permits(n int) func(context.Context) (*Permit, error) {
	return func(ctx context.Context) (*Permit, error) { return m.Acquire(ctx, n) }
}

// acquire acquires permits, and must succeed within a minute.
func (w *world) acquire(m *Semaphore, n int) *Permit {
	w.Helper()
	p := start(w, m.permits(n)).get()
	require.Equal(w, n, p.Permits())
	return p
}

// trap D4
func TestPermitsAreGivenAllAtOnceOrNotAtAll(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 4), NewSemaphore(w.session("b"), "s", 4)
		p1, p2 := w.acquire(a, 1), w.acquire(b, 1)
		// Two callers, and half of the permits of each is free.
		three := start(w, a.permits(3))
		w.pass(time.Second)
		four := start(w, b.permits(4))
		w.pass(time.Second)
		three.isWaiting()
		four.isWaiting()
		require.Len(w, w.Keys("s/"), 4, "one entry for each")
		w.unlock(p1.Release)
		p3 := three.get()
		four.isWaiting()
		w.unlock(p2.Release)
		w.pass(time.Second)
		four.isWaiting()
		w.unlock(p3.Release)
		w.unlock(four.get().Release)
		w.empty("s")
		w.allGone()
	})
}

func TestEveryPathOfASemaphoreTakesAsFewRequestsAsPromised(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 2), NewSemaphore(w.session("b"), "s", 2)
		ca, cb := w.Client("a"), w.Client("b")
		var p, q *Permit
		require.Equal(w, "1 Txn", requests(ca, func() { p = w.acquire(a, 1) }), "free")
		require.Equal(w, "1 Txn", requests(cb, func() { q = w.acquire(b, 1) }), "beside another one")
		w.unchanged(func() {
			require.Equal(w, "1 Txn", requests(cb, func() {
				_, err := b.TryAcquire(w.ctx, 1)
				require.ErrorIs(w, err, ErrLocked)
			}), "try, taken")
		})
		var wait *pending[*Permit]
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(cb, func() {
			wait = start(w, b.permits(1))
			w.pass(200 * time.Millisecond)
		}), "to be in line")
		require.Empty(w, requests(cb, func() {
			require.Equal(w, "1 Txn", requests(ca, func() { w.unlock(p.Release) }), "release")
			p = wait.get()
		}), "handover")
		w.unlock(q.Release)
		require.Equal(w, "2 Txn", requests(ca, func() {
			var err error
			q, err = a.TryAcquire(w.ctx, 1)
			require.NoError(w, err)
		}), "try, beside another one: the second writes")
		w.unlock(p.Release)
		w.unlock(q.Release)
		w.pass(5 * time.Second)
		require.Equal(w, "1 Txn", requests(ca, func() {
			var err error
			q, err = a.TryAcquire(w.ctx, 2)
			require.NoError(w, err)
		}), "try, free")
		w.unlock(q.Release)
		w.allGone()
	})
}

// trap A13
func TestATryThatIsRefusedAcquiresNothing(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 3), NewSemaphore(w.session("b"), "s", 3)
		p := w.acquire(a, 2)
		w.unchanged(func() {
			for _, m := range []*Semaphore{a, b} {
				_, err := m.TryAcquire(w.ctx, 2)
				require.ErrorIs(w, err, ErrLocked)
			}
		})
		big := start(w, b.permits(3))
		w.pass(time.Second)
		w.unchanged(func() {
			for _, m := range []*Semaphore{a, b} {
				_, err := m.TryAcquire(w.ctx, 1)
				require.ErrorIs(w, err, ErrLocked, "another caller waits, though one permit is free")
			}
		})
		w.unlock(p.Release)
		w.unlock(big.get().Release)
		w.allGone()
	})
}

// Of several callers of one session that try at one instant, none is refused because of the others.
func TestThoseWhoTryAtOnceAllGetPermits(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewSemaphore(w.session("a"), "s", 10)
		var tries []*pending[*Permit]
		for range 10 {
			tries = append(tries, start(w, func(ctx context.Context) (*Permit, error) { return a.TryAcquire(ctx, 1) }))
		}
		for _, p := range tries {
			defer w.unlock(p.get().Release)
		}
		_, err := a.TryAcquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLocked)
	})
}

// Of tries at the same instant in several sessions as many succeed as there are permits for.
func TestTriesInSeveralSessions(t *testing.T) {
	for seed := range uint64(20) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			var tries []*pending[*Permit]
			for i := range 6 {
				m := NewSemaphore(w.session(fmt.Sprint("s", i)), "s", 4)
				tries = append(tries, start(w, func(ctx context.Context) (*Permit, error) { return m.TryAcquire(ctx, 1) }))
			}
			got := 0
			for _, p := range tries {
				if _, err := p.result(); err != nil {
					require.ErrorIs(w, err, ErrLocked)
					continue
				}
				got++
			}
			require.Equal(w, 4, got)
			require.Len(w, w.Keys("s/"), 4)
			w.allGone()
		})
	}
}

func TestALargeRequestDoesNotStarveBehindSmallOnes(t *testing.T) {
	simulate(t, func(w *world) {
		const critical = 30 * time.Millisecond
		stop := make(chan struct{})
		var small sync.WaitGroup
		sessions := []*Session{w.session("small-0"), w.session("small-1"), w.session("small-2"), w.session("small-3")}
		for i := range 12 {
			m := NewSemaphore(sessions[i%4], "s", 5)
			small.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					p := w.acquire(m, 1)
					time.Sleep(critical)
					w.unlock(p.Release)
				}
			})
		}
		w.pass(time.Second)
		large := NewSemaphore(w.session("large"), "s", 5)
		worst := time.Duration(0)
		for range 20 {
			began := time.Now()
			p := w.acquire(large, 5)
			worst = max(worst, time.Since(began))
			w.unlock(p.Release)
		}
		close(stop)
		small.Wait()
		t.Logf("a request for all permits waited for %v at most, with critical sections of %v", worst, critical)
		require.Less(w, worst, 3*critical+50*time.Millisecond, "for the holders, and the entries in front of it")
		w.allGone()
	})
}

// A large request that is given up blocks no other one, not even of its own session (trap A3).
func TestALargeRequestThatIsGivenUpLetsSmallOnesIn(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 3), NewSemaphore(w.session("b"), "s", 3)
		p := w.acquire(a, 1)
		large := start(w, b.permits(3))
		w.pass(time.Second)
		own, other := start(w, b.permits(1)), start(w, a.permits(1))
		w.pass(time.Second)
		own.isWaiting()
		other.isWaiting()
		large.cancel()
		large.fails(context.Canceled)
		own.get()
		other.get()
		require.NoError(w, p.Err())
		w.allGone()
	})
}

func TestACrowdForPermits(t *testing.T) {
	simulate(t, func(w *world) {
		const limit, sessions = 5, 24
		var mu sync.Mutex
		held, most := 0, 0
		var work sync.WaitGroup
		for i := range sessions {
			m := NewSemaphore(w.session(fmt.Sprint("s", i)), "s", limit)
			work.Go(func() {
				for round := range 3 {
					n := 1 + (i+round)%limit
					p := w.acquire(m, n)
					mu.Lock()
					held += n
					most = max(most, held)
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					held -= n
					mu.Unlock()
					w.unlock(p.Release)
				}
			})
		}
		work.Wait()
		require.Equal(w, limit, most, "all of them are given, and no more")
		w.empty("s")
		w.allGone()
	})
}

func TestInvalidNumbersOfPermits(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		above := wire.MostPermits
		above++ // negative where an int has 32 bits
		w.unchanged(func() {
			for _, test := range []struct{ limit, n int }{
				{3, 0}, {3, -1}, {3, 4}, {0, 1}, {-1, 1}, {above, 1},
			} {
				m := NewSemaphore(s, "s", test.limit)
				_, err := m.Acquire(w.ctx, test.n)
				require.ErrorIs(w, err, ErrInvalidPermits, "%d of %d", test.n, test.limit)
				_, err = m.TryAcquire(w.ctx, test.n)
				require.ErrorIs(w, err, ErrInvalidPermits, "%d of %d", test.n, test.limit)
			}
			m := NewSemaphore(s, "s", 3)
			require.ErrorIs(w, m.SetLimit(w.ctx, -1), ErrInvalidPermits)
			require.ErrorIs(w, m.SetLimit(w.ctx, above), ErrInvalidPermits)
			ended, cancel := context.WithCancel(w.ctx)
			cancel()
			for _, n := range []int{1, 5} {
				_, err := m.Acquire(ended, n)
				require.ErrorIs(w, err, context.Canceled)
			}
			require.ErrorIs(w, m.SetLimit(ended, 1), context.Canceled)
		})
		w.allGone()
	})
}

// trap A4: on entering; trap A10: on leaving.
func TestPermitsWhoseAnswersAreLost(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"lost answer":  {DropReply: true},
		"lost request": {DropRequest: true},
		"late request": {DelayRequest: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b := NewSemaphore(w.session("a"), "s", 3), NewSemaphore(w.session("b"), "s", 3)
				other := w.acquire(b, 1)
				w.next("a", simetcd.Txn, act)
				p := w.acquire(a, 2)
				w.pass(20 * time.Second)
				require.Len(w, w.Keys("s/"), 2)
				require.NoError(w, p.Err())
				w.next("a", simetcd.Txn, act)
				w.unlock(p.Release)
				w.unlock(w.acquire(b, 2).Release)

				w.next("a", simetcd.Txn, act)
				given := start(w, a.permits(2))
				w.pass(time.Second)
				given.cancel()
				given.fails(context.Canceled)
				// Another one takes the same slot, with what is left in it or not.
				p = w.acquire(a, 1)
				w.pass(30 * time.Second)
				require.NoError(w, p.Err())
				require.Len(w, w.Keys("s/"), 2, "nothing else is left")
				w.unlock(p.Release)
				w.unlock(other.Release)
				w.empty("s")
				w.allGone()
			})
		})
	}
}

// A hold of some permits within those that the context carries.
func TestPermitsAreAPartOfThoseTheContextCarries(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		a := NewSemaphore(s, "s", 3, WithReentry(3))
		p := w.acquire(a, 2)
		_, err := NewSemaphore(s, "s", 3).Acquire(p.Context(), 1)
		require.ErrorIs(w, err, ErrDeadlock, "though one is free: two such callers could wait for each other")
		_, err = NewSemaphore(s, "s", 3).TryAcquire(p.Context(), 1)
		require.ErrorIs(w, err, ErrDeadlock)
		require.ErrorIs(w, err, ErrLocked)
		w.Client("a").ResetCounts()
		q, err := a.Acquire(p.Context(), 2)
		require.NoError(w, err)
		require.Equal(w, 2, q.Permits())
		require.Equal(w, p.Key(), q.Key())
		_, err = a.Acquire(q.Context(), 3)
		require.ErrorIs(w, err, ErrDeadlock, "more than the context carries")
		require.Zero(w, w.Client("a").Count(unary...))
		w.unlock(p.Release)
		rest := start(w, func(ctx context.Context) (*Permit, error) { return a.Acquire(ctx, 3) })
		w.pass(time.Second)
		rest.isWaiting()
		w.unlock(q.Release)
		w.unlock(rest.get().Release)
		require.NoError(w, a.Do(w.ctx, 3, func(ctx context.Context, p *Permit) error {
			require.Equal(w, 3, p.Permits())
			return ctx.Err()
		}))
		w.allGone()
	})
}

func TestASemaphoreThatMayNotReadItsLimit(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewSemaphore(w.session("a"), "jobs", 3)
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Txn, simetcd.Range, simetcd.Put)
		_, err := a.Acquire(w.ctx, 1)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		require.ErrorContains(w, err, `grant the user readwrite to the range from "jobs" to "jobs0"`)
		require.ErrorContains(w, a.SetLimit(w.ctx, 1), `grant the user readwrite to the range from "jobs" to "jobs0"`)
		_, err = a.Limit(w.ctx)
		require.ErrorContains(w, err, `grant the user readwrite to the range from "jobs" to "jobs0"`)
		w.Intercept(nil)
		w.unlock(w.acquire(a, 3).Release)
		w.allGone()
	})
}

func TestTheQueueTellsPermits(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 3), NewSemaphore(w.session("b"), "s", 3)
		p := w.acquire(a, 2)
		wait := start(w, b.permits(3))
		w.pass(time.Second)
		entries, err := a.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 2)
		require.Equal(w, []int{2, 3, 3, 3}, []int{entries[0].Permits, entries[0].Limit, entries[1].Permits, entries[1].Limit})
		w.unlock(p.Release)
		w.unlock(wait.get().Release)
		w.allGone()
	})
}
