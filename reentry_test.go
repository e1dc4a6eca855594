package etcdlock

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUnderItsOwnContextALockIsHadAgainAndTheLastOneReleases(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m, c := NewMutex(s, "m", WithReentry(6)), w.Client("a")
		other := NewMutex(w.session("b"), "m")
		for seed := range uint64(10) {
			l := w.lock(m)
			all := []*Lock{l}
			r := rand.New(rand.NewPCG(seed, 0))
			c.ResetCounts()
			for range 5 {
				n, err := NewMutex(s, "m", WithReentry(6)).Lock(all[r.IntN(len(all))].Context())
				require.NoError(w, err)
				all = append(all, n)
				require.Equal(w, l.Token(), n.Token())
				require.Equal(w, l.Key(), n.Key())
				require.Equal(w, l.Guard(), n.Guard())
				require.WithinDuration(w, l.Deadline(), n.Deadline(), time.Millisecond)
			}
			require.Zero(w, c.Count(unary...))
			next := start(w, other.Lock)
			w.pass(100 * time.Millisecond)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for _, n := range all {
				next.isWaiting()
				require.NoError(w, n.Err())
				require.NoError(w, n.Unlock(w.ctx))
				require.ErrorIs(w, n.Err(), ErrReleased)
				require.ErrorIs(w, n.Unlock(w.ctx), ErrReleased)
			}
			require.NoError(w, next.get().Unlock(w.ctx))
		}
		w.allGone()
	})
}

// Go has no identity of the caller: without the context the same goroutine waits for itself.
func TestWithoutTheContextTheSameGoroutineWaitsForItself(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithReentry(2))
		l := w.lock(m)
		_, err := m.Lock(w.timeout(time.Minute))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		_, err = m.TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		// Nor does the context of another session's hold help.
		_, err = NewMutex(w.session("b"), "m").Lock(func() context.Context {
			ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
			t.Cleanup(cancel)
			return ctx
		}())
		require.ErrorIs(w, err, context.DeadlineExceeded)
		n, err := m.TryLock(l.Context())
		require.NoError(w, err)
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, n.Unlock(w.ctx))
		w.allGone()
	})
}

func TestTheContextOfAHoldThatIsOverCarriesNone(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithReentry(2))
		l := w.lock(m)
		stale := context.WithoutCancel(l.Context())
		require.NoError(w, l.Unlock(w.ctx))
		held := w.lock(m)
		ctx, cancel := context.WithTimeout(stale, time.Second)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(w, err, context.DeadlineExceeded)
		_, err = m.TryLock(stale)
		require.ErrorIs(w, err, ErrLocked)

		// And after a loss, of all holds of the turn at once.
		n, err := m.Lock(held.Context())
		require.NoError(w, err)
		stale = context.WithoutCancel(n.Context())
		w.RevokeLease(s.Lease())
		<-held.Done()
		<-n.Done()
		require.ErrorIs(w, n.Err(), ErrRevoked)
		_, err = m.Lock(held.Context())
		require.ErrorIs(w, err, ErrLost)
		again, err := m.Lock(stale)
		require.NoError(w, err)
		require.Greater(w, again.Token(), n.Token())
		require.ErrorIs(w, n.Unlock(w.ctx), ErrRevoked)
		require.NoError(w, again.Err())
		require.NoError(w, again.Unlock(w.ctx))
		w.allGone()
	})
}

func TestTheReentryLimit(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithReentry(2))
		l := w.lock(m)
		n, err := m.Lock(l.Context())
		require.NoError(w, err)
		for range 2 {
			_, err = m.Lock(n.Context())
			require.ErrorIs(w, err, ErrReentryLimit)
			_, err = m.TryLock(l.Context())
			require.ErrorIs(w, err, ErrReentryLimit)
		}
		require.NoError(w, l.Unlock(w.ctx))
		l, err = m.Lock(n.Context())
		require.NoError(w, err, "it counts those at a time")
		_, err = NewMutex(s, "m", WithReentry(1)).Lock(n.Context())
		require.ErrorIs(w, err, ErrReentryLimit)
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, n.Unlock(w.ctx))
		w.allGone()
	})
}

func TestNestedHoldsOfReadersAndWriters(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewRWMutex(s, "m", WithReentry(4))
		write, err := m.Lock(w.ctx)
		require.NoError(w, err)
		inner, err := m.RLock(write.Context())
		require.NoError(w, err)
		again, err := m.Lock(inner.Context())
		require.NoError(w, err, "all of it is a write lock")
		_, err = m.RLock(w.timeout(time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.NoError(w, again.Unlock(w.ctx))
		require.NoError(w, write.Unlock(w.ctx))
		_, err = m.TryRLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		require.NoError(w, inner.Unlock(w.ctx))

		read, err := m.RLock(w.ctx)
		require.NoError(w, err)
		_, err = m.Lock(read.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		_, err = m.TryLock(read.Context())
		require.ErrorIs(w, err, ErrLocked)
		writer := start(w, NewRWMutex(w.session("b"), "m").Lock)
		w.pass(time.Second)
		second, err := m.RLock(read.Context())
		require.NoError(w, err, "before the waiting writer, which waits for this reader")
		_, err = m.TryRLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked, "but not without the context")
		require.NoError(w, read.Unlock(w.ctx))
		w.pass(time.Second)
		writer.isWaiting()
		require.NoError(w, second.Unlock(w.ctx))
		require.NoError(w, writer.get().Unlock(w.ctx))
		w.allGone()
	})
}

func TestATermCarriesItsHoldToo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "m")
		term, err := e.Campaign(w.ctx, "v")
		require.NoError(w, err)
		_, err = NewMutex(s, "m").Lock(term.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		l, err := NewMutex(s, "m", WithReentry(2)).Lock(term.Context())
		require.NoError(w, err)
		_, err = e.Campaign(term.Context(), "w")
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, term.Resign(w.ctx))
		_, err = e.Leader(w.ctx)
		require.NoError(w, err, "the lock within it is held")
		require.NoError(w, l.Unlock(w.ctx))
		_, err = e.Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		w.allGone()
	})
}

func TestDoCarriesTheHoldAndTheValues(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m, n := NewMutex(s, "m", WithReentry(4)), NewMutex(s, "n", WithReentry(4))
		type key struct{}
		err := m.Do(context.WithValue(w.ctx, key{}, "value"), func(ctx context.Context, outer *Lock) error {
			return n.Do(ctx, func(ctx context.Context, _ *Lock) error {
				return m.Do(ctx, func(ctx context.Context, inner *Lock) error {
					require.Equal(w, outer.Token(), inner.Token())
					require.Equal(w, "value", ctx.Value(key{}))
					require.Equal(w, "value", inner.Context().Value(key{}))
					_, err := n.TryLock(inner.Context())
					require.NoError(w, err, "those around are carried as well")
					return nil
				})
			})
		})
		require.NoError(w, err)
		w.empty("m")
	})
}

// Run under -race: a turn is entered and left by many goroutines.
func TestATurnIsSharedByManyGoroutines(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithReentry(9))
		other := NewMutex(w.session("b"), "m")
		for seed := range uint64(20) {
			l := w.lock(m)
			next := start(w, other.Lock)
			w.pass(10 * time.Millisecond)
			var all sync.WaitGroup
			for i := range 8 {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				all.Go(func() {
					for range 10 {
						n, err := m.Lock(l.Context())
						if err != nil {
							t.Error(err)
							return
						}
						time.Sleep(time.Duration(r.IntN(1000)))
						if err := n.Unlock(w.ctx); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			next.isWaiting()
			require.NoError(w, l.Unlock(w.ctx))
			require.NoError(w, next.get().Unlock(w.ctx))
		}
		w.allGone()
	})
}
