package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// lockUnder waits for a lock in the background, under a context that carries holds.
func (w *world) lockUnder(under context.Context, m *Mutex) *pending[*Lock] {
	w.Helper()
	p := start(w, func(ctx context.Context) (*Lock, error) {
		ctx, cancel := context.WithCancel(local.Carry(ctx, local.CarriedBy(under)))
		defer cancel()
		defer context.AfterFunc(under, cancel)()
		return m.Lock(ctx)
	})
	w.pass(100 * time.Millisecond) // it is in line, or has failed
	return p
}

// deadlocks are those under a prefix, as the names in which their members wait.
func (w *world) deadlocks(s *Session, prefix string) []string {
	w.Helper()
	found, err := s.Deadlocks(w.ctx, prefix)
	require.NoError(w, err)
	all := make([]string, 0, len(found))
	for _, d := range found {
		var names []string
		for _, wait := range d {
			name, _ := wire.NameOf(wait.Waiter.Key)
			names = append(names, fmt.Sprintf("%s:%s", wait.Waiter.Owner, name))
		}
		all = append(all, strings.Join(names, " "))
	}
	return all
}

func TestADeadlockOfTwoIsFoundAndTheYoungerOneIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		detect := WithDeadlockDetection("x/")
		la, lb := w.lock(NewMutex(a, "x/1")), w.lock(NewMutex(b, "x/2"))
		older := w.lockUnder(la.Context(), NewMutex(a, "x/2", detect))
		older.isWaiting()
		require.Empty(w, w.deadlocks(a, "x/"))
		blind := w.lockUnder(lb.Context(), NewMutex(b, "x/1")) // without the option it waits
		blind.isWaiting()
		require.Equal(w, []string{"a:x/2 b:x/1"}, w.deadlocks(a, "x/"))
		found, err := b.Deadlocks(w.ctx, "")
		require.NoError(w, err)
		require.Equal(w, lb.Key(), found[0][0].For.Key)
		require.Equal(w, []string{la.Key()}, found[0][0].Waiter.Holds)
		require.Equal(w, la.Key(), found[0][1].For.Key)
		require.Contains(w, found[0].String(), fmt.Sprintf("waits with %q for %q", found[0][0].Waiter.Key, lb.Key()))
		require.Empty(w, w.deadlocks(a, "y"), "another prefix")
		blind.cancel()
		blind.fails(context.Canceled)
		w.pass(time.Second)
		require.Empty(w, w.deadlocks(a, "x/"))

		_, err = NewMutex(b, "x/1", detect).Lock(lb.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.ErrorContains(w, err, la.Key())
		w.pass(time.Second)
		require.Len(w, w.Keys("x/1/"), 1, "the key of the victim is gone")
		older.isWaiting()
		require.NoError(w, lb.Unlock(w.ctx))
		require.NoError(w, older.get().Unlock(w.ctx))
		require.NoError(w, la.Unlock(w.ctx))
		w.allGone()
	})
}

func TestADeadlockOfThreeAndThroughPlacesInALine(t *testing.T) {
	simulate(t, func(w *world) {
		detect := WithDeadlockDetection("")
		var sessions []*Session
		var held []*Lock
		for i := range 3 {
			s := w.session(fmt.Sprint("s", i))
			sessions = append(sessions, s)
			held = append(held, w.lock(NewMutex(s, fmt.Sprint("x/", i))))
		}
		p0 := w.lockUnder(held[0].Context(), NewMutex(sessions[0], "x/1", detect))
		// A waiter that holds nothing is in the queue before the second one.
		bystander := w.lockUnder(w.ctx, NewMutex(w.session("by"), "x/2"))
		p1 := w.lockUnder(held[1].Context(), NewMutex(sessions[1], "x/2", detect))
		for _, p := range []*pending[*Lock]{p0, p1, bystander} {
			p.isWaiting()
		}
		p2 := w.lockUnder(held[2].Context(), NewMutex(sessions[2], "x/0"))
		p2.isWaiting()
		require.Equal(w, []string{"s0:x/1 s1:x/2 by:x/2 s2:x/0"}, w.deadlocks(sessions[0], "x/"))
		p2.cancel()
		p2.fails(context.Canceled)
		w.pass(time.Second)
		_, err := NewMutex(sessions[2], "x/0", detect).Lock(held[2].Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, held[2].Unlock(w.ctx))
		require.NoError(w, bystander.get().Unlock(w.ctx))
		require.NoError(w, p1.get().Unlock(w.ctx))
		require.NoError(w, held[1].Unlock(w.ctx))
		require.NoError(w, p0.get().Unlock(w.ctx))
		require.NoError(w, held[0].Unlock(w.ctx))
		w.allGone()
	})
}

// To wait behind an entry that waits for this one is a deadlock too, although that entry holds none of
// the wanted names.
func TestADeadlockWithSomebodyAheadInTheLine(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		x := w.lock(NewMutex(a, "x"))
		y := w.lock(NewMutex(c, "y"))
		// b holds z and waits for y, behind c; a holds x and waits behind b.
		z := w.lock(NewMutex(b, "z"))
		pb := w.lockUnder(z.Context(), NewMutex(b, "y"))
		pa := w.lockUnder(x.Context(), NewMutex(a, "y"))
		pb.isWaiting()
		pa.isWaiting()
		require.Empty(w, w.deadlocks(a, ""))
		// c wants x: a waits for c, although behind b.
		_, err := NewMutex(c, "x", WithDeadlockDetection("")).Lock(y.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, pb.get().Unlock(w.ctx))
		require.NoError(w, pa.get().Unlock(w.ctx))
		w.pass(time.Second)
		w.allGone()
	})
}

func TestReadersPermitsAndSeveralNamesAreSeenInDeadlocks(t *testing.T) {
	simulate(t, func(w *world) {
		detect := WithDeadlockDetection("")
		a, b := w.session("a", detect), w.session("b", detect)
		refused := func(err error) {
			t.Helper()
			require.ErrorIs(w, err, ErrDeadlock)
			w.pass(time.Second)
		}

		soon := func(l *Lock) context.Context {
			ctx, cancel := context.WithTimeout(l.Context(), 10*time.Second)
			t.Cleanup(cancel)
			return ctx
		}

		// A reader, and a writer behind it.
		r, err := NewRWMutex(a, "r").RLock(w.ctx)
		require.NoError(w, err)
		m := w.lock(NewMutex(b, "m"))
		p := w.lockUnder(r.Context(), NewMutex(a, "m"))
		p.isWaiting()
		_, err = NewRWMutex(b, "r").Lock(soon(m))
		refused(err)
		r2, err := NewRWMutex(b, "r").RLock(m.Context())
		require.NoError(w, err, "readers do not wait for each other")

		// Permits.
		s1, err := NewSemaphore(a, "s", 3).Acquire(w.ctx, 2)
		require.NoError(w, err)
		ps := w.lockUnder(s1.Context(), NewMutex(a, "m"))
		one, err := NewSemaphore(b, "s", 3).Acquire(m.Context(), 1)
		require.NoError(w, err, "there is one left")
		_, err = NewSemaphore(b, "s", 3).Acquire(soon(m), 1)
		refused(err)

		// Of several names, waited for and wanted.
		set := w.lockAll(a, "p", "q")
		pset := w.lockUnder(set.Context(), NewMutex(a, "m"))
		_, err = NewMultiMutex(b, []string{"o", "q"}).Lock(soon(m))
		refused(err)
		w.empty("o")
		for _, p := range []*pending[*Lock]{p, ps, pset} {
			p.isWaiting()
			p.cancel()
			p.fails(context.Canceled)
		}
		mine := w.lockAllLater(a, "m", "n") // it holds nothing
		w.pass(time.Second)
		mine.isWaiting()
		mine.cancel()
		carrying := start(w, func(context.Context) (*LockSet, error) { return NewMultiMutex(a, []string{"n", "m"}).Lock(r.Context()) })
		w.pass(time.Second)
		carrying.isWaiting()
		_, err = NewRWMutex(b, "r").Lock(soon(m))
		refused(err)
		require.NoError(w, r2.Unlock(w.ctx))
		require.NoError(w, one.Release(w.ctx))
		require.NoError(w, m.Unlock(w.ctx))
		require.NoError(w, carrying.get().Unlock(w.ctx))
		w.pass(time.Second)
		w.allGone()
	})
}

func TestGoroutinesOfOneSessionInADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		detect := WithDeadlockDetection("")
		x, y := w.lock(NewMutex(s, "x")), w.lock(NewMutex(s, "y"))
		p := w.lockUnder(x.Context(), NewMutex(s, "y", detect))
		p.isWaiting()
		_, err := NewMutex(s, "x", detect).Lock(y.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))
		require.NoError(w, x.Unlock(w.ctx))
		w.pass(time.Second)
		require.Empty(w, w.Keys(""))

		// And a caller that waits for itself: further permits are no nested hold.
		sem := NewSemaphore(s, "s", 2, detect)
		all, err := sem.Acquire(w.ctx, 2)
		require.NoError(w, err)
		_, err = sem.Acquire(all.Context(), 1)
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, all.Release(w.ctx))
		w.allGone()
	})
}

// All waiters of a cycle may look at the same time. The rule that only the youngest is refused then
// decides.
func TestExactlyOneOfThoseInACycleIsRefused(t *testing.T) {
	for seed := range uint64(60) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			n := 2 + int(seed%3)
			sessions := make([]*Session, n)
			held := make([]*Lock, n)
			for i := range n {
				sessions[i] = w.session(fmt.Sprint("s", i%(1+int(seed)%n)), // some of one process, or of one session
					sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Slots = 1 }))
				if seed%4 == 0 {
					sessions[i] = sessions[0]
				}
				held[i] = w.lock(NewMutex(sessions[i], fmt.Sprint("x/", i)))
			}
			var refused atomic.Int32
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() {
					l, err := NewMutex(sessions[i], fmt.Sprint("x/", (i+1)%n), WithDeadlockDetection("x/")).Lock(held[i].Context())
					switch {
					case errors.Is(err, ErrDeadlock):
						refused.Add(1)
					case err != nil:
						t.Error(err)
					default:
						time.Sleep(time.Millisecond)
						_ = l.Unlock(w.ctx)
					}
					_ = held[i].Unlock(w.ctx)
				})
			}
			all.Wait()
			require.EqualValues(w, 1, refused.Load(), "seed %d", seed)
			w.allGone()
		})
	}
}

// Writes of one session travel together and so share a revision: exactly one of them
// must still be the youngest.
func TestOfTwoThatLinedUpAtOneRevisionOneIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Slots = 1 }))
		detect := WithDeadlockDetection("")
		x, y := w.lock(NewMutex(s, "x")), w.lock(NewMutex(s, "y"))
		// While the only slot is taken, the two writes wait for it and then go together.
		w.next("a", simetcd.Txn, simetcd.Action{DelayReply: 150 * time.Millisecond})
		blocker := start(w, NewMutex(s, "z").Lock)
		time.Sleep(10 * time.Millisecond)
		p := start(w, func(context.Context) (*Lock, error) { return NewMutex(s, "y", detect).Lock(x.Context()) })
		q := start(w, func(context.Context) (*Lock, error) { return NewMutex(s, "x", detect).Lock(y.Context()) })
		w.pass(time.Second)
		require.NoError(w, blocker.get().Unlock(w.ctx))
		refused := 0
		for _, p := range []*pending[*Lock]{p, q} {
			select {
			case <-p.done:
				require.ErrorIs(w, p.err, ErrDeadlock)
				refused++
			default:
			}
		}
		require.Equal(w, 1, refused)
		kx, ky := w.Keys("x/"), w.Keys("y/")
		require.Equal(w, 3, len(kx)+len(ky))
		require.NoError(w, x.Unlock(w.ctx))
		require.NoError(w, y.Unlock(w.ctx))
		for _, p := range []*pending[*Lock]{p, q} {
			if l, err := p.result(); err == nil {
				require.NoError(w, l.Unlock(w.ctx))
			}
		}
		w.allGone()
	})
}

func TestDetectionCostsOneReadForEachWait(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.Client("b")
		held, own := w.lock(NewMutex(a, "x")), w.lock(NewMutex(b, "y"))
		var p *pending[*Lock]
		plain := requests(c, func() {
			p = w.lockUnder(own.Context(), NewMutex(b, "x"))
			p.isWaiting()
		})
		p.cancel()
		p.fails(context.Canceled)
		w.pass(2 * time.Second)
		detected := requests(c, func() {
			p = w.lockUnder(own.Context(), NewMutex(b, "x", WithDeadlockDetection("")))
			p.isWaiting()
		})
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", plain)
		require.Equal(w, "2 Range, 1 Txn, 1 Watch", detected)
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))
		require.Equal(w, "1 Txn", requests(c, func() { // none for a lock that is free
			l, err := NewMutex(b, "free", WithDeadlockDetection("")).Lock(own.Context())
			require.NoError(w, err)
			held = l
		}))
		require.NoError(w, held.Unlock(w.ctx))
		require.Equal(w, "1 Range", requests(c, func() { require.Empty(w, w.deadlocks(b, "")) }))
		w.allGone()
	})
}
