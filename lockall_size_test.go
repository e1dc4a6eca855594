package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// longNames are so many names of so many bytes, which all begin with a prefix.
func longNames(prefix string, n, bytes int) []string {
	var names []string
	for i := range n {
		name := fmt.Sprintf("%s%03d-", prefix, i)
		names = append(names, name+strings.Repeat("x", bytes-len(name)))
	}
	return names
}

// report L5: the request of a set grows with its names, and not with their square; what etcd takes
// in no request is told clearly.
func TestManyLongNamesAreLockedAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for _, bytes := range []int{12, 370, 2000} {
			names := longNames("n", 64, bytes)
			set := w.lockAll(s, names...)
			total := 0
			for _, kv := range w.Keys("n") {
				total += len(kv.Key) + len(kv.Value)
			}
			require.Less(w, total, 2*64*bytes+64<<10+64*200)
			_, err := NewMultiMutex(w.session(fmt.Sprint("b", bytes)), names).TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			require.NoError(w, set.Unlock(w.ctx))
		}
		_, err := NewMultiMutex(s, longNames("n", 64, 30_000)).Lock(w.ctx)
		require.ErrorIs(w, err, ErrTooManyNames)
		require.ErrorIs(w, err, rpctypes.ErrRequestTooLarge)
		require.ErrorContains(w, err, "--max-request-bytes")
		require.Less(w, len(err.Error()), 2000, "the names are cut in it")
		w.pass(time.Minute)
		w.allGone()
	})
}

// The entries of one set are known to belong together also where the names do not stand in
// their values: a deadlock of two sets and two locks is found.
func TestADeadlockOfSetsWithLongNamesIsFound(t *testing.T) {
	simulate(t, func(w *world) {
		names := longNames("d/", 8, 2000)
		require.Len(w, together(names), 1)
		a, b := w.session("a"), w.session("b")
		one, two := w.lock(NewMutex(a, "d/one")), w.lock(NewMutex(b, "d/two"))
		set := start(w, setOf(a, one, append(names, "d/two")...))
		w.pass(time.Second)
		other := start(w, setOf(b, two, append([]string{"d/one"}, names...)...))
		w.pass(time.Second)
		found, err := w.session("admin").Deadlocks(w.ctx, "d/")
		require.NoError(w, err)
		require.Len(w, found, 1)
		require.Len(w, found[0], 2, "the two sets, each of which is one waiter")
		w.unlock(one.Unlock)
		w.unlock(two.Unlock)
		w.unlock(set.get().Unlock)
		w.unlock(other.get().Unlock)
		w.allGone()
	})
}

// The digest is that of the names, in their order, and of nothing else; short sets have their names.
func TestWhatTheEntriesOfASetSay(t *testing.T) {
	short := []string{"a", "b"}
	require.Equal(t, short, together(short))
	long := longNames("x", 64, 400)
	require.Equal(t, together(long), together(longNames("x", 64, 400)))
	require.NotEqual(t, together(long), together(longNames("y", 64, 400)))
	moved := append(longNames("x", 64, 400)[1:], long[0])
	require.NotEqual(t, together(long), together(moved))
	h, ok := wire.DecodeHolder([]byte(wire.Holder{All: together(long)}.Encode()))
	require.True(t, ok)
	require.Equal(t, together(long), h.All)
}

// report L6: a limit is set on an etcd that allows few operations, however many hold.
func TestTheLimitIsSetWhereTransactionsAreSmall(t *testing.T) {
	for _, most := range []int{32, 3} {
		simulateWith(t, simetcd.Config{Seed: 1, MaxTxnOps: most}, func(w *world) {
			const holders = 40
			var permits []*Permit
			for i := range holders {
				permits = append(permits, w.acquire(NewSemaphore(w.session(fmt.Sprint("s", i)), "s", holders), 1))
			}
			admin := NewSemaphore(w.session("admin"), "s", holders)
			w.setLimit(admin, holders+1)
			w.limits(admin, holders+1)
			one := w.acquire(admin, 1)
			_, err := admin.TryAcquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrLocked)
			w.unlock(one.Release)
			for _, p := range permits {
				w.unlock(p.Release)
			}
			w.setLimit(admin, 0)
			w.allGone()
		})
	}
}

// setOf locks all the names for the holder of a lock.
func setOf(s *Session, held *Lock, names ...string) func(context.Context) (*LockSet, error) {
	return func(context.Context) (*LockSet, error) {
		return NewMultiMutex(s, names).Lock(context.WithoutCancel(held.Context()))
	}
}
