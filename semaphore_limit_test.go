package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func (w *world) setLimit(m *Semaphore, limit int) {
	w.Helper()
	require.NoError(w, m.SetLimit(w.timeout(time.Minute), limit))
}

// limits asserts what limit a semaphore has.
func (w *world) limits(m *Semaphore, want int) {
	w.Helper()
	got, err := m.Limit(w.ctx)
	require.NoError(w, err)
	require.Equal(w, want, got)
}

func TestTwoProcessesWithDifferentLimitsAreTold(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 3), NewSemaphore(w.session("b"), "s", 30)
		p := w.acquire(a, 1)
		_, err := b.Acquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLimitMismatch)
		require.ErrorContains(w, err, "3")
		require.ErrorContains(w, err, "30")
		w.pass(time.Second)
		w.unchanged(func() {
			_, err = b.TryAcquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrLimitMismatch)
		})
		require.Len(w, w.Keys("s/"), 1, "nothing is left of it")
		w.unlock(p.Release)
		w.unlock(w.acquire(b, 20).Release) // no other entry says otherwise
		w.allGone()
	})
}

func TestTheLimitIsRaisedForThoseWhoWait(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 2), NewSemaphore(w.session("b"), "s", 2)
		p := w.acquire(a, 2)
		wait := start(w, b.permits(2))
		w.pass(time.Second)
		wait.isWaiting()
		w.limits(b, 2)
		w.setLimit(b, 4)
		q := wait.get()
		w.limits(b, 4)
		_, err := a.TryAcquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLocked)
		w.unlock(p.Release)
		w.unlock(q.Release)
		// For all, whatever they were given, and with an empty queue.
		w.unlock(w.acquire(a, 4).Release)
		w.unlock(w.acquire(NewSemaphore(w.session("c"), "s", 1), 4).Release)
		_, err = a.Acquire(w.ctx, 5)
		require.ErrorIs(w, err, ErrInvalidPermits)
		w.setLimit(a, 0)
		require.Empty(w, w.Keys("s"))
		w.allGone()
	})
}

func TestTheLimitIsLoweredWhileInUse(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 6), NewSemaphore(w.session("b"), "s", 6)
		p1, p2 := w.acquire(a, 3), w.acquire(b, 3)
		large, small := start(w, a.permits(4)), start(w, b.permits(1))
		w.pass(time.Second)
		w.setLimit(a, 3)
		large.fails(ErrInvalidPermits) // it can never be satisfied any more
		require.NoError(w, p1.Err(), "holders go on")
		require.NoError(w, p2.Err())
		w.unlock(p1.Release)
		w.pass(time.Second)
		small.isWaiting()
		w.unlock(p2.Release)
		w.unlock(small.get().Release)
		_, err := b.Acquire(w.ctx, 4)
		require.ErrorIs(w, err, ErrInvalidPermits)
		w.setLimit(b, 0)
		w.unlock(w.acquire(a, 6).Release)
		w.allGone()
	})
}

// After the change was taken back, each process goes by what it was given, those that had
// heard of the change too.
func TestAChangeOfTheLimitIsTakenBack(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 2), NewSemaphore(w.session("b"), "s", 2)
		w.setLimit(a, 5)
		w.unlock(w.acquire(a, 5).Release)
		p := w.acquire(b, 3)
		w.setLimit(b, 0)
		_, err := a.TryAcquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLocked, "of two permits three are taken")
		w.unlock(p.Release)
		p = w.acquire(a, 2)
		_, err = b.TryAcquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLocked)
		require.NotContains(w, string(w.Get(p.Key()).Value), "ordered")
		_, err = a.Acquire(w.ctx, 5)
		require.ErrorIs(w, err, ErrInvalidPermits)
		w.unlock(p.Release)
		w.allGone()
	})
}

// It costs one more request to hear of a change, once.
func TestAChangeOfTheLimitIsHeardOfOnce(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewSemaphore(w.session("a"), "s", 2), NewSemaphore(w.session("b"), "s", 2)
		w.setLimit(b, 3)
		for i, want := range []string{"2 Txn", "1 Txn", "1 Txn"} {
			var p *Permit
			require.Equal(w, want, requests(w.Client("a"), func() { p = w.acquire(a, 2) }), "%d", i)
			w.unlock(p.Release)
		}
		w.setLimit(b, 0)
		w.allGone()
	})
}

// More entries than one transaction changes.
func TestTheLimitIsChangedInALongQueue(t *testing.T) {
	simulate(t, func(w *world) {
		const sessions = 60
		first := w.acquire(NewSemaphore(w.session("first"), "s", 1), 1)
		var waits []*pending[*Permit]
		for i := range sessions {
			m := NewSemaphore(w.session(fmt.Sprint("s", i)), "s", 1)
			waits = append(waits, start(w, m.permits(1)))
		}
		w.pass(5 * time.Second)
		for _, p := range waits {
			p.isWaiting()
		}
		w.setLimit(NewSemaphore(w.session("admin"), "s", 1), sessions+1)
		for _, p := range waits {
			p.get()
		}
		w.unlock(first.Release)
		w.setLimit(NewSemaphore(w.session("admin"), "s", 1), 0)
		w.allGone()
	})
}

// An order that no client understands is none.
func TestAnOrderThatIsNotOurs(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewSemaphore(w.session("a"), "s", 2)
		for _, order := range []string{"", "7", "nonsense", `{"limit":-1}`, `{"limit":0}`, `{"limit":99999999999}`, `{"limit":"7"}`, `null`} {
			w.PutKey("s\x00limit", order, 0)
			w.limits(a, 2)
			p := w.acquire(a, 2)
			_, err := a.TryAcquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrLocked, "%q", order)
			w.unlock(p.Release)
		}
		w.setLimit(a, 0)
		w.allGone()
	})
}

// An entry that is in flight when the limit changes does not follow the old limit: neither with a late
// request, nor if it is adopted after a lost answer.
func TestAnEntryThatIsOnItsWayWhenTheLimitChanges(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"late request": {DelayRequest: 2 * time.Second},
		"lost answer":  {DropReply: true},
		"late answer":  {DelayReply: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b := NewSemaphore(w.session("a"), "s", 6), NewSemaphore(w.session("b"), "s", 6)
				for _, limit := range []int{3, 2, 4, 1} {
					p := w.acquire(b, 1)
					w.next("a", simetcd.Txn, act)
					late := start(w, a.permits(1))
					w.pass(time.Second)
					w.setLimit(b, limit)
					w.pass(5 * time.Second)
					w.unlock(p.Release)
					q := late.get()
					require.Contains(w, string(w.Get(q.Key()).Value), fmt.Sprintf(`"limit":%d,"ordered":true`, limit))
					w.unlock(q.Release)
				}
				w.setLimit(b, 0)
				w.allGone()
			})
		})
	}
}

// The last one of several changes at a time holds, for the entries in the queue too.
func TestSeveralChangesOfTheLimitAtATime(t *testing.T) {
	for seed := range uint64(20) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			r := rand.New(rand.NewPCG(seed, 1))
			const most = 9
			var work sync.WaitGroup
			for i := range 4 {
				m := NewSemaphore(w.session(fmt.Sprint("s", i)), "s", most)
				work.Go(func() {
					for n := range 5 {
						p, err := m.Acquire(w.timeout(time.Minute), 1+(i+n)%2)
						if err != nil {
							continue // too many by now
						}
						time.Sleep(7 * time.Millisecond)
						w.unlock(p.Release)
					}
				})
				at, limit := time.Duration(r.IntN(50))*time.Millisecond, 1+r.IntN(most)
				work.Go(func() {
					time.Sleep(at)
					w.setLimit(m, limit)
				})
			}
			time.Sleep(40 * time.Millisecond)
			hold := start(w, NewSemaphore(w.session("holder"), "s", most).permits(1))
			work.Wait()
			p := hold.get()
			w.pass(time.Second)
			m := NewSemaphore(w.session("last"), "s", most)
			limit, err := m.Limit(w.ctx)
			require.NoError(w, err)
			require.Contains(w, string(w.Get(p.Key()).Value), fmt.Sprintf(`"limit":%d,"ordered":true`, limit))
			w.unlock(p.Release)
			w.setLimit(m, 0)
			w.allGone()
		})
	}
}

// One value of Semaphore, many goroutines, and changes all the time: the permits held by
// callers that came after a confirmed change are within the limits since.
func TestALimitThatChangesAllTheTimeIsKept(t *testing.T) {
	for seed := range uint64(3) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			const given = 5
			shared := NewSemaphore(w.session("a"), "s", given)
			admin := NewSemaphore(w.session("admin"), "s", given)
			var mu sync.Mutex
			held, limit := 0, given // limit: the largest in force since the last change began
			stop := make(chan struct{})
			var work sync.WaitGroup
			for i := range 6 {
				m := shared
				if i%2 == 0 {
					m = NewSemaphore(w.session(fmt.Sprint("s", i)), "s", given)
				}
				work.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(w.ctx, time.Second)
						p, err := m.Acquire(ctx, 1+i%3)
						cancel()
						if err != nil {
							time.Sleep(10 * time.Millisecond)
							continue
						}
						mu.Lock()
						if held += p.Permits(); held > limit {
							w.Errorf("seed %d: %d permits of %d", seed, held, limit)
						}
						mu.Unlock()
						time.Sleep(5 * time.Millisecond)
						mu.Lock()
						held -= p.Permits()
						mu.Unlock()
						w.unlock(p.Release)
					}
				})
			}
			r := rand.New(rand.NewPCG(seed, 2))
			for range 20 {
				next := 1 + r.IntN(2*given)
				mu.Lock()
				limit = max(limit, next)
				mu.Unlock()
				w.setLimit(admin, next)
				time.Sleep(20 * time.Millisecond) // the former holders have left
				mu.Lock()
				limit = next
				mu.Unlock()
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			close(stop)
			work.Wait()
			w.setLimit(admin, 0)
			w.allGone()
		})
	}
}

// A process took a lease over, with a permit of its former one, and does not know that the limit is smaller now. It hears
// so from the transaction that finds that permit; then the queue is empty, and it wants more than there is.
func TestMoreThanASmallerLimitIsNeverGrantedWhoeverIsThere(t *testing.T) {
	for _, ask := range []func(*Semaphore, context.Context, int) (*Permit, error){(*Semaphore).TryAcquire, (*Semaphore).Acquire} {
		simulate(t, func(w *world) {
			a := w.session("a")
			_, err := NewSemaphore(a, "sem", 3).Acquire(w.ctx, 1)
			require.NoError(w, err)
			s := w.session("a2", WithLease(w.orphan(a)))
			require.NoError(w, NewSemaphore(w.session("b"), "sem", 3).SetLimit(w.ctx, 1))
			_, err = ask(NewSemaphore(s, "sem", 3), w.ctx, 3)
			require.ErrorIs(w, err, ErrInvalidPermits)
			p, err := ask(NewSemaphore(s, "sem", 3), w.ctx, 1)
			require.NoError(w, err)
			require.NoError(w, p.Release(w.ctx))
		})
	}
}

// A late try of SetLimit is not taken for the order of another caller, which would rewrite the entries.
func TestALateTryOfAChangeOfTheLimitLeavesNoEntryBehind(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		held := w.acquire(NewSemaphore(a, "s", 4), 4)
		waits := start(w, func(ctx context.Context) (*Permit, error) { return NewSemaphore(b, "s", 4).Acquire(ctx, 3) })
		w.pass(time.Second)
		waits.isWaiting()
		var wrote, read bool
		w.Intercept(func(call simetcd.Call) simetcd.Action {
			switch {
			case call.Client != "c":
			case (call.Kind == simetcd.Put || call.Kind == simetcd.Txn) && !wrote:
				wrote = true
				return simetcd.Action{DelayRequest: etcdkv.FirstBound + 300*time.Millisecond}
			case call.Kind == simetcd.Range && !read: // of the entries
				read = true
				return simetcd.Action{DelayRequest: 600 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		require.NoError(w, NewSemaphore(c, "s", 4).SetLimit(w.timeout(time.Minute), 2))
		require.True(w, wrote && read)
		w.Intercept(nil)
		waits.fails(ErrInvalidPermits)
		for _, kv := range w.Keys("s/") {
			require.Contains(w, string(kv.Value), `"limit":2`)
		}
		require.NoError(w, held.Release(w.ctx))
	})
}

// A late try to take the order back spares the order of another process.
func TestALateTryToTakeALimitBackSparesALaterOne(t *testing.T) {
	simulate(t, func(w *world) {
		a, c := NewSemaphore(w.session("a"), "s", 4), NewSemaphore(w.session("c"), "s", 4)
		w.setLimit(a, 2)
		w.limits(c, 2)
		delayed := false
		w.Intercept(func(call simetcd.Call) simetcd.Action {
			if call.Client != "c" || delayed {
				return simetcd.Action{}
			}
			delayed = true
			return simetcd.Action{DelayRequest: etcdkv.FirstBound + time.Second}
		})
		w.setLimit(c, 0)
		require.True(w, delayed)
		w.Intercept(nil)
		w.setLimit(a, 3)
		w.pass(3 * time.Second)
		w.limits(c, 3)
	})
}
