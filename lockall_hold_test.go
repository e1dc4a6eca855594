package etcdlock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestGuardsHoldOnlyWhileAllKeysStand(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		set := w.lockAll(s, "x", "y")
		write := func() bool {
			resp, err := s.Client().Txn(w.ctx).If(set.Guards()...).Then(clientv3.OpPut("resource", "v")).Commit()
			require.NoError(w, err)
			return resp.Succeeded
		}
		require.Len(w, set.Guards(), 2)
		require.True(w, write())
		w.DeleteKey(set.Keys()[1])
		require.False(w, write())
		w.DeleteKey("resource")
		<-set.Done()
		w.allGone()
	})
}

func TestUnderLockAllEachOfItsNamesCanBeLockedAgain(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		set := w.lockAll(a, "x", "y")
		w.Client("a").ResetCounts()
		y, err := NewMutex(a, "y", WithReentry(3)).Lock(set.Context())
		require.NoError(w, err)
		x, err := NewRWMutex(a, "x", WithReentry(3)).RLock(set.Context())
		require.NoError(w, err)
		require.Zero(w, w.Client("a").Count(unary...))
		require.Equal(w, []string{x.Key(), y.Key()}, set.Keys())
		require.Equal(w, set.Token(), y.Token())
		other := w.lockAllLater(b, "y")
		require.NoError(w, set.Unlock(w.ctx))
		w.pass(time.Second)
		other.isWaiting()
		require.NoError(w, x.Unlock(w.ctx))
		w.pass(time.Second)
		other.isWaiting() // all of it ends at the same time
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, other.get().Unlock(w.ctx))
		w.allGone()
	})
}

func TestLockAllUnderAHoldOfOneOfItsNamesIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		x := w.lock(NewMutex(s, "x"))
		set := w.lockAll(s, "p", "q")
		for _, ctx := range []context.Context{x.Context(), func() context.Context {
			y, err := NewMutex(s, "y").Lock(x.Context())
			require.NoError(w, err)
			return y.Context()
		}()} {
			_, err := NewMultiMutex(s, []string{"z", "x"}).Lock(ctx)
			require.ErrorIs(w, err, ErrDeadlock)
			require.ErrorContains(w, err, x.Key())
			_, err = NewMultiMutex(s, []string{"z", "x"}).TryLock(ctx)
			require.ErrorIs(w, err, ErrLocked)
			require.ErrorIs(w, err, ErrDeadlock)
		}
		_, err := NewMultiMutex(s, []string{"q", "r"}).Lock(set.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, set.Unlock(w.ctx))
		r, err := NewMultiMutex(s, []string{"q", "r"}).Lock(set.Context())
		require.ErrorIs(w, err, ErrReleased, "a context that has ended")
		require.Nil(w, r)
		require.NoError(w, x.Unlock(w.ctx))
	})
}

func TestAWriteLockWithinLockAllCannotBeDowngraded(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		set := w.lockAll(s, "x", "y")
		x, err := NewRWMutex(s, "x", WithReentry(2)).Lock(set.Context())
		require.NoError(w, err)
		require.NoError(w, set.Unlock(w.ctx))
		_, err = x.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrReentryLimit)
		require.NoError(w, x.Err(), "and it is held as before")
		require.NoError(w, x.Unlock(w.ctx))
		w.allGone()
	})
}

func TestDoAll(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		wrong := errors.New("wrong")
		err := NewMultiMutex(s, []string{"x", "y"}).Do(w.ctx, func(ctx context.Context, locks *LockSet) error {
			require.NoError(w, locks.Err())
			_, err := NewMultiMutex(s, []string{"x"}).Lock(ctx)
			require.ErrorIs(w, err, ErrDeadlock)
			return wrong
		})
		require.Equal(w, wrong, err)
		require.Panics(w, func() {
			_ = NewMultiMutex(s, []string{"x", "y"}).Do(w.ctx, func(context.Context, *LockSet) error { panic("in the work") })
		})
		synctest.Wait()
		w.empty("x")
		w.empty("y")
		err = NewMultiMutex(s, []string{"x", "y"}).Do(w.ctx, func(ctx context.Context, locks *LockSet) error {
			w.DeleteKey(locks.Keys()[1])
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.ErrorIs(w, err, ErrEvicted)
		require.ErrorIs(w, NewMultiMutex(s, nil).Do(w.ctx, nil), ErrInvalidName)
		w.allGone()
	})
}

// A MultiMutex blocks no other caller in memory: its session hands over, and keeps, as without it.
func TestLockAllWaitsForASliceOfItsOwnSessionAtMost(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "x", WithTimeSlice(50*time.Millisecond))
		var busy sync.WaitGroup
		ctx, stop := context.WithCancel(w.ctx)
		for range 3 {
			busy.Go(func() {
				for ctx.Err() == nil {
					l, err := m.Lock(w.ctx)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(5 * time.Millisecond)
					_ = l.Unlock(w.ctx)
				}
			})
		}
		w.pass(time.Second)
		began := time.Now()
		set := w.lockAll(s, "x", "y")
		require.Less(w, time.Since(began), 100*time.Millisecond)
		require.NoError(w, set.Unlock(w.ctx))
		stop()
		busy.Wait()
		require.True(w, slices.Equal(set.Names(), []string{"x", "y"}))
		w.allGone()
	})
}

// A MultiMutex takes the options that all locks take.
func TestTheOptionsOfAMultiMutex(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMultiMutex(s, []string{"x", "y", "z"}, WithOwner("its own"), WithReentry(2))
		set, err := m.Lock(w.ctx)
		require.NoError(w, err)
		entries, err := m.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 3)
		for i, e := range entries {
			require.Equal(w, "its own", e.Owner)
			require.Equal(w, set.Keys()[i], e.Key)
			require.True(w, e.Holding)
		}

		// A hold within that of the set, of a part of its names in another order.
		w.Client("a").ResetCounts()
		part := NewMultiMutex(s, []string{"z", "x"}, WithReentry(2))
		within, err := part.Lock(set.Context())
		require.NoError(w, err)
		require.Zero(w, w.Client("a").Count(unary...))
		require.Equal(w, []string{set.Keys()[2], set.Keys()[0]}, within.Keys())
		require.Equal(w, []clientv3.Cmp{set.Guards()[2], set.Guards()[0]}, within.Guards())
		require.Equal(w, set.Token(), within.Token())
		_, err = part.TryLock(within.Context())
		require.ErrorIs(w, err, ErrReentryLimit)
		_, err = NewMultiMutex(s, []string{"x", "other"}, WithReentry(5)).Lock(within.Context())
		require.ErrorIs(w, err, ErrDeadlock, "not all of it is held")
		w.unlock(set.Unlock)
		require.NoError(w, within.Err())
		next := w.lockAllLater(w.session("b"), "y")
		w.pass(time.Second)
		next.isWaiting()
		w.unlock(within.Unlock)
		w.unlock(next.get().Unlock)

		_, err = NewMultiMutex(s, nil).Queue(w.ctx)
		require.ErrorIs(w, err, ErrInvalidName)
		w.allGone()
	})
}

// Deadlock detection had to be given to the whole session.
func TestAMultiMutexDetectsDeadlocks(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		la, lb := w.lock(NewMutex(a, "x/1")), w.lock(NewMutex(b, "x/2"))
		older := start(w, func(context.Context) (*Lock, error) { return NewMutex(a, "x/2").Lock(la.Context()) })
		w.pass(time.Second)
		_, err := NewMultiMutex(b, []string{"x/1", "x/3"}, WithDeadlockDetection("x/")).Lock(bounded(lb.Context(), w, time.Minute))
		require.ErrorIs(w, err, ErrDeadlock)
		w.unlock(lb.Unlock)
		w.unlock(older.get().Unlock)
		w.unlock(la.Unlock)
		w.allGone()
	})
}
