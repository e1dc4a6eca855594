package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// unary are all kinds but what a session sends by itself, and watches.
var unary = []simetcd.Kind{simetcd.Range, simetcd.Put, simetcd.Delete, simetcd.Txn, simetcd.TxnReadOnly}

// lockAll locks all names, and must succeed within a minute.
func (w *world) lockAll(s *Session, names ...string) *LockSet {
	w.Helper()
	set, err := NewMultiMutex(s, names).Lock(w.timeout(time.Minute))
	require.NoError(w, err)
	return set
}

// waitOrTry are the two ways to lock.
var waitOrTry = []func(*MultiMutex, context.Context) (*LockSet, error){(*MultiMutex).Lock, (*MultiMutex).TryLock}

// lockAllLater is Lock in the background.
func (w *world) lockAllLater(s *Session, names ...string) *pending[*LockSet] {
	return start(w, func(ctx context.Context) (*LockSet, error) { return NewMultiMutex(s, names).Lock(ctx) })
}

func TestLockAllHasAllNamesAtOneRevision(t *testing.T) {
	simulate(t, func(w *world) {
		names := []string{"c", "a", "b/1"}
		set := w.lockAll(w.session("a"), names...)
		require.Equal(w, names, set.Names())
		require.NoError(w, set.Err())
		for i, key := range set.Keys() {
			kvs := w.Keys(names[i] + "/")
			require.Len(w, kvs, 1)
			require.Equal(w, key, string(kvs[0].Key))
			require.Equal(w, set.Token(), kvs[0].CreateRevision)
		}
		require.WithinDuration(w, time.Now().Add(9*time.Second), set.Deadline(), time.Second)
		require.NoError(w, set.Unlock(w.ctx))
		require.ErrorIs(w, set.Err(), ErrReleased)
		require.ErrorIs(w, set.Unlock(w.ctx), ErrReleased)
		require.ErrorIs(w, context.Cause(set.Context()), ErrReleased)
		require.Zero(w, set.Deadline())
		<-set.Done()
		w.allGone()
	})
}

func TestLockAllOfFreeNamesIsOneRequestAndSoIsItsUnlock(t *testing.T) {
	simulate(t, func(w *world) {
		s, c := w.session("a"), w.Client("a")
		for _, n := range []int{1, 2, 64} {
			var names []string
			for i := range n {
				names = append(names, fmt.Sprintf("n/%d", i))
			}
			c.ResetCounts()
			set := w.lockAll(s, names...)
			require.Equal(w, 1, c.Count(unary...), "%d names", n)
			require.NoError(w, set.Unlock(w.ctx))
			require.Equal(w, 2, c.Count(unary...), "%d names", n)
			set, err := NewMultiMutex(s, names).TryLock(w.ctx)
			require.NoError(w, err)
			require.Equal(w, 3, c.Count(unary...), "%d names", n)
			require.NoError(w, set.Unlock(w.ctx))
		}
		w.allGone()
	})
}

// What it costs to wait: one entering transaction and one view for the first name in which
// another entry is ahead; at the handover, a look at each further name in which one was,
// and one at all of our own keys.
func TestWhatLockAllOfTakenNamesCosts(t *testing.T) {
	simulate(t, func(w *world) {
		held := w.lockAll(w.session("a"), "x", "y")
		s, c := w.session("b"), w.Client("b")
		c.ResetCounts()
		p := w.lockAllLater(s, "y", "z", "x")
		w.pass(100 * time.Millisecond)
		p.isWaiting()
		inLine := c.Count(unary...)
		require.LessOrEqual(w, inLine, 2)
		require.Equal(w, 1, c.Count(simetcd.Txn))
		require.NoError(w, held.Unlock(w.ctx))
		set := p.get()
		handover := c.Count(unary...) - inLine
		require.LessOrEqual(w, handover, 2, "x is looked at, and all keys")
		t.Logf("to be in line: %d requests; handover with two contended names: %d", inLine, handover)
		require.NoError(w, set.Unlock(w.ctx))
		w.allGone()
	})
}

func TestLockAllHoldsNoneUntilItHasAll(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		x := w.lock(NewMutex(a, "x"))
		all := w.lockAllLater(b, "x", "y")
		w.pass(time.Second)
		all.isWaiting()
		_, err := NewMutex(a, "y").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked, "its place in the line counts")
		require.NoError(w, x.Unlock(w.ctx))
		set := all.get()
		require.Greater(w, set.Token(), x.Token())
		require.NoError(w, set.Unlock(w.ctx))
		w.allGone()
	})
}

func TestTheOrderInWhichNamesAreWrittenDoesNotMatter(t *testing.T) {
	for seed := range uint64(20) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			orders := [][]string{{"x", "y"}, {"y", "x"}, {"x", "y", "z"}, {"z", "x"}, {"y", "z"}, {"z", "y", "x"}}
			inside := map[string]*atomic.Int32{"x": {}, "y": {}, "z": {}}
			var work sync.WaitGroup
			for i, names := range orders {
				s := w.session(fmt.Sprint("client-", i/2)) // two of each process
				work.Go(func() {
					for range 5 {
						set, err := NewMultiMutex(s, names).Lock(w.timeout(time.Minute))
						if err != nil {
							t.Error(err)
							return
						}
						for _, name := range names {
							if inside[name].Add(1) != 1 {
								t.Errorf("two hold %s", name)
							}
						}
						time.Sleep(time.Duration(i+1) * time.Millisecond)
						for _, name := range names {
							inside[name].Add(-1)
						}
						if err := set.Unlock(w.ctx); err != nil {
							t.Error(err)
						}
					}
				})
			}
			work.Wait()
			w.allGone()
		})
	}
}

func TestLockAllTakesTurnsWithEveryOtherKind(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		for _, s := range []*Session{a, b} { // the others are of its own session, and of another
			write, err := NewRWMutex(s, "w").Lock(w.ctx)
			require.NoError(w, err)
			read, err := NewRWMutex(s, "r").RLock(w.ctx)
			require.NoError(w, err)
			permits, err := NewSemaphore(s, "s", 3).Acquire(w.ctx, 1)
			require.NoError(w, err)
			term, err := NewElection(s, "e").Campaign(w.ctx, "v")
			require.NoError(w, err)
			lock := w.lock(NewMutex(s, "m"))
			all := w.lockAllLater(a, "w", "r", "s", "e", "m")
			for _, release := range []func(context.Context) error{write.Unlock, read.Unlock, permits.Release, term.Resign, lock.Unlock} {
				w.pass(time.Second)
				all.isWaiting()
				require.NoError(w, release(w.ctx))
			}
			set := all.get()
			require.Greater(w, set.Token(), lock.Token())

			reader := start(w, NewRWMutex(s, "r").RLock)
			one := start(w, func(ctx context.Context) (*Permit, error) { return NewSemaphore(s, "s", 3).Acquire(ctx, 1) })
			next := start(w, NewMutex(s, "m").Lock)
			w.pass(time.Second)
			reader.isWaiting()
			one.isWaiting()
			next.isWaiting()
			require.NoError(w, set.Unlock(w.ctx))
			require.Greater(w, reader.get().Token(), set.Token())
			require.NoError(w, reader.value.Unlock(w.ctx))
			require.NoError(w, one.get().Release(w.ctx))
			require.NoError(w, next.get().Unlock(w.ctx))
		}
		w.allGone()
	})
}

// Two of one session too have keys of their own: neither is let in with the other.
func TestTwoLockAllOfOneSessionWaitForEachOther(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first := w.lockAll(s, "x", "y")
		second := w.lockAllLater(s, "y", "x")
		w.pass(time.Second)
		third := w.lockAllLater(s, "y", "z")
		w.pass(time.Second)
		second.isWaiting()
		third.isWaiting()
		require.NoError(w, first.Unlock(w.ctx))
		set := second.get()
		require.Greater(w, set.Token(), first.Token())
		third.isWaiting()
		require.NoError(w, set.Unlock(w.ctx))
		require.NoError(w, third.get().Unlock(w.ctx))
		w.allGone()
	})
}

func TestTryLockAllWritesNothingUnlessAllAreFree(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.Client("b")
		lock := w.lock(NewMutex(a, "y"))
		before := w.Revision()
		c.ResetCounts()
		for range 3 {
			_, err := NewMultiMutex(b, []string{"x", "y", "z"}).TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		}
		require.Equal(w, 3, c.Count(unary...))
		require.Equal(w, before, w.Revision())
		_, err := NewMultiMutex(a, []string{"x", "y"}).TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked, "of the same session")
		require.NoError(w, lock.Unlock(w.ctx))
		set, err := NewMultiMutex(b, []string{"x", "y", "z"}).TryLock(w.ctx)
		require.NoError(w, err)
		require.Greater(w, set.Token(), lock.Token())
		require.NoError(w, set.Unlock(w.ctx))
		w.allGone()
	})
}

func TestNamesThatCannotBeLockedTogether(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		var many []string
		for i := range 65 {
			many = append(many, fmt.Sprint("n/", i))
		}
		w.lock(NewMutex(s, "used/inner"))
		for _, c := range []struct {
			names []string
			want  error
			says  string
		}{
			{nil, ErrInvalidName, "the list of names is empty"},
			{[]string{""}, ErrInvalidName, "empty"},
			{[]string{"a", "b/"}, ErrInvalidName, `"b/"`},
			{[]string{"a", "b", "a"}, ErrInvalidName, `"a" is given twice`},
			{[]string{"a/b", "c", "a"}, ErrNestedName, `"a/b" is inside "a"`},
			{[]string{"a/b/c", "a"}, ErrNestedName, `"a/b/c" is inside "a"`},
			{[]string{"c", "used"}, ErrNestedName, `"used/inner"`},
			{[]string{"c", "used/inner/more"}, ErrNestedName, `"used/inner"`},
			{many, ErrTooManyNames, "65, but at most 64"},
		} {
			for _, lock := range waitOrTry {
				_, err := lock(NewMultiMutex(s, c.names), w.ctx)
				require.ErrorIs(w, err, c.want, "%v", c.names)
				require.ErrorContains(w, err, c.says)
			}
		}
		_, err := NewMultiMutex(nil, []string{"a"}).Lock(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
		_, err = NewMultiMutex(s, []string{"a"}).Lock(w.timeout(0))
		require.ErrorIs(w, err, context.DeadlineExceeded)

		// Names that others use are found in etcd.
		other := w.session("b")
		_, err = NewMultiMutex(other, []string{"c", "used"}).Lock(w.ctx)
		require.ErrorIs(w, err, ErrNestedName)
		w.pass(time.Second) // its keys are deleted in the background
		_, err = NewMultiMutex(other, []string{"c", "used"}).TryLock(w.ctx)
		require.ErrorIs(w, err, ErrNestedName)
		// And those of a MultiMutex by its own session.
		set := w.lockAll(s, "p/q", "r")
		_, err = NewMutex(s, "p").Lock(w.ctx)
		require.ErrorIs(w, err, ErrNestedName)
		require.NoError(w, set.Unlock(w.ctx))
		w.pass(time.Minute)
		w.empty("c")
		require.NoError(w, w.lock(NewMutex(s, "p")).Unlock(w.ctx), "it is free again")
	})
}

func TestAnEtcdThatAllowsFewerOperationsIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCTooManyOps}, simetcd.Txn)
		for _, lock := range waitOrTry {
			_, err := lock(NewMultiMutex(s, []string{"x", "y", "z"}), w.ctx)
			require.ErrorIs(w, err, ErrTooManyNames)
			require.ErrorContains(w, err, "--max-txn-ops")
		}
		w.Intercept(nil)
		require.NoError(w, w.lockAll(s, "x", "y", "z").Unlock(w.ctx))
		w.allGone()
	})
}
