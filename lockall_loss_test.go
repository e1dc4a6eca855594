package etcdlock

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// trap A3, A4
func TestALockAllThatIsGivenUpLeavesNothing(t *testing.T) {
	for seed := range uint64(30) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			held := w.lockAll(w.session("a"), "x", "y")
			s := w.session("b")
			r := rand.New(rand.NewPCG(seed, 0))
			for range 5 {
				p := w.lockAllLater(s, "y", "z", "x")
				other := w.lockAllLater(s, "x", "q")
				time.Sleep(time.Duration(r.IntN(int(4 * time.Millisecond))))
				p.cancel()
				p.fails(context.Canceled)
				w.pass(time.Second)
				w.empty("z")
				other.isWaiting()
				other.cancel()
				other.fails(context.Canceled)
			}
			w.pass(time.Second)
			require.Len(w, w.Keys("x/"), 1)
			require.Len(w, w.Keys("y/"), 1)
			require.NoError(w, held.Unlock(w.ctx))
			w.allGone()
		})
	}
}

// traps A4, A10
func TestLostAnswersOfLockAll(t *testing.T) {
	for _, act := range []simetcd.Action{
		{DropReply: true}, {DropRequest: true}, {DelayReply: 4 * time.Second}, {DelayRequest: 4 * time.Second},
	} {
		simulate(t, func(w *world) {
			s := w.session("a")
			w.next("a", simetcd.Txn, act)
			set := w.lockAll(s, "x", "y")
			w.next("a", simetcd.Txn, act)
			require.NoError(w, set.Unlock(w.timeout(time.Minute)))
			w.empty("x")
			w.empty("y")

			w.next("a", simetcd.Txn, act)
			set, err := NewMultiMutex(s, []string{"x", "y"}).TryLock(w.timeout(time.Minute))
			require.NoError(w, err)
			w.next("a", simetcd.Txn, act)
			require.ErrorIs(w, set.Unlock(w.timeout(time.Second)), ErrUnconfirmed)
			w.pass(15 * time.Second)
			w.empty("x")
			w.empty("y")

			held := w.lock(NewMutex(w.session("b"), "y"))
			w.next("a", simetcd.Txn, act)
			p := w.lockAllLater(s, "x", "y")
			w.pass(time.Second)
			p.cancel()
			p.fails(context.Canceled)
			w.pass(30 * time.Second)
			w.empty("x")
			require.Len(w, w.Keys("y/"), 1)
			require.NoError(w, held.Unlock(w.ctx))
			w.allGone()
		})
	}
}

func TestOneDeletedKeyEndsAllOfLockAllAndTheOthersFollow(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		for i := range 3 {
			for _, after := range []time.Duration{0, time.Second} { // before it is watched, and when it is
				set := w.lockAll(a, "x", "y", "z")
				next := w.lockAllLater(b, "z", "y", "x")
				w.pass(after)
				next.isWaiting()
				w.DeleteKey(set.Keys()[i])
				<-set.Done()
				require.ErrorIs(w, set.Err(), ErrLost)
				require.ErrorIs(w, set.Err(), ErrEvicted)
				require.ErrorIs(w, context.Cause(set.Context()), ErrEvicted)
				require.ErrorIs(w, set.Unlock(w.ctx), ErrEvicted)
				got := next.get()
				require.Greater(w, got.Token(), set.Token())
				require.NoError(w, got.Unlock(w.ctx))
				synctest.Wait()
				require.Empty(w, w.Keys(""))
			}
		}
		require.Equal(w, StateConnected, a.State())
		w.allGone()
	})
}

func TestAnUnlockFindsOutThatAKeyOfLockAllIsGone(t *testing.T) {
	simulate(t, func(w *world) {
		set := w.lockAll(w.session("a"), "x", "y")
		w.DeleteKey(set.Keys()[1])
		require.ErrorIs(w, set.Unlock(w.ctx), ErrEvicted)
		require.Empty(w, w.Keys(""))
	})
}

func TestAWaiterInSeveralLinesIsToldThatOneOfItsKeysWasDeleted(t *testing.T) {
	simulate(t, func(w *world) {
		x := w.lock(NewMutex(w.session("a"), "x"))
		for _, gone := range []string{"x/", "y/"} {
			p := w.lockAllLater(w.session("b"), "x", "y")
			w.pass(2 * time.Second)
			p.isWaiting()
			kvs := w.Keys(gone)
			w.DeleteKey(string(kvs[len(kvs)-1].Key))
			if gone == "y/" {
				require.NoError(w, x.Unlock(w.ctx)) // found out at the latest when it is its turn
			}
			p.fails(ErrLost, ErrEvicted)
			w.pass(time.Second)
			w.empty("y")
			for _, s := range w.sessions[1:] {
				require.NoError(w, s.Close(w.ctx))
			}
		}
		w.allGone()
	})
}

func TestLockAllIsLostWithTheLease(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		set := w.lockAll(a, "x", "y")
		next := w.lockAllLater(b, "y", "x")
		wait := w.lockAllLater(a, "y", "z")
		w.pass(time.Second)
		w.Client("a").Cut()
		<-set.Done()
		over := time.Now()
		require.ErrorIs(w, set.Err(), ErrExpired)
		got := next.get()
		require.GreaterOrEqual(w, next.at.Sub(over), 500*time.Millisecond, "the margin")
		require.Greater(w, got.Token(), set.Token())
		wait.fails(ErrLost, ErrExpired)
		w.Client("a").Heal()
		require.NoError(w, got.Unlock(w.ctx))
		again := w.lockAll(a, "x", "y")
		require.Greater(w, again.Token(), got.Token())
		w.RevokeLease(a.Lease())
		w.pass(10 * time.Second)
		require.ErrorIs(w, again.Err(), ErrRevoked)
		w.allGone()
	})
}

func TestCloseEndsLockAll(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		set := w.lockAll(a, "x", "y")
		wait := w.lockAllLater(a, "y", "z")
		w.pass(time.Second)
		require.NoError(w, a.Close(w.ctx))
		require.ErrorIs(w, set.Err(), ErrSessionClosed)
		wait.fails(ErrSessionClosed)
		_, err := NewMultiMutex(a, []string{"x"}).Lock(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
		require.Empty(w, w.Keys(""))
	})
}

func TestAnotherProcessTakesALockAllOverWithItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		set := w.lockAll(a, "x", "y")
		wait := w.lockAllLater(a, "y", "z")
		w.pass(time.Second)
		id := w.orphan(a)
		require.ErrorIs(w, set.Err(), ErrOrphaned)
		wait.fails(ErrOrphaned)
		w.empty("z")
		next := w.lockAllLater(w.session("b"), "y", "x")
		w.pass(time.Second)
		heir := w.session("c", WithLease(id))
		again := w.lockAll(heir, "y", "x") // in any order
		require.Greater(w, again.Token(), set.Token())
		next.isWaiting()
		require.NoError(w, again.Unlock(w.ctx))
		require.NoError(w, next.get().Unlock(w.ctx))
		w.allGone()
	})
}

func TestALockAllThatWasTakenOverHasALargerToken(t *testing.T) {
	for _, lock := range waitOrTry {
		simulate(t, func(w *world) {
			a := w.session("a")
			set := w.lockAll(a, "x", "y") // and no session writes meanwhile
			b := w.session("b", WithLease(w.orphan(a)))
			again, err := lock(NewMultiMutex(b, []string{"x", "y"}), w.ctx)
			require.NoError(w, err)
			require.Greater(w, again.Token(), set.Token())
			require.Equal(w, set.Keys(), again.Keys())
			entries, err := NewMutex(b, "x").Queue(w.ctx)
			require.NoError(w, err)
			require.Equal(w, "b", entries[0].Owner)
			require.NoError(w, again.Unlock(w.ctx))
			w.allGone()
		})
	}
}

// Keys of a lease that were not written together are no entry of a MultiMutex: it could be
// before another one under one name, and behind it under another.
func TestLockAllDoesNotBuildOnKeysThatWereNotWrittenTogether(t *testing.T) {
	simulate(t, func(w *world) {
		id := w.GrantLease(ttl)
		// As a process that crashed while it waited leaves them: of two MultiMutex, or a part.
		key := func(name string, lease clientv3.LeaseID) string { return name + "/" + wire.Hex(lease) + ".1" }
		w.PutKey(key("x", id), "", id)
		other := w.lockAllLater(w.session("b"), "y", "x")
		w.pass(time.Second)
		other.isWaiting()
		w.PutKey(key("y", id), "", id)
		heir := w.session("c", WithLease(id))
		p := w.lockAllLater(heir, "x", "y")
		set := other.get()
		p.isWaiting()
		require.NoError(w, set.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))

		w.PutKey(key("y", id), "", id)
		require.NoError(w, w.lockAll(heir, "x", "y").Unlock(w.ctx))
		w.PutKey(key("y", id), "", id)
		free, err := NewMultiMutex(heir, []string{"x", "y"}).TryLock(w.ctx)
		require.NoError(w, err)
		require.NoError(w, free.Unlock(w.ctx))
		w.allGone()
	})
}

// TestKeptKeysDoNotMakeADeadlock, with MultiMutex: a key that a session keeps blocks no other session for
// longer than a notification takes, and a MultiMutex does not build on it.
func TestLockAllDoesNotBuildOnWhatIsKept(t *testing.T) {
	for seed := range uint64(20) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			var both sync.WaitGroup
			var longest time.Duration
			var mu sync.Mutex
			for i, names := range [][]string{{"x", "y"}, {"y", "x"}} {
				s := w.session([]string{"a", "b"}[i])
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				both.Go(func() {
					for range 20 {
						if r.IntN(2) == 0 { // keep one of them first
							l, err := NewMutex(s, names[r.IntN(2)], WithRetention(time.Hour)).Lock(w.ctx)
							if err != nil {
								t.Error(err)
								return
							}
							_ = l.Unlock(w.ctx)
						}
						began := time.Now()
						set, err := NewMultiMutex(s, names).Lock(w.timeout(time.Minute))
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						longest = max(longest, time.Since(began))
						mu.Unlock()
						time.Sleep(time.Duration(r.IntN(int(5 * time.Millisecond))))
						_ = set.Unlock(w.ctx)
					}
				})
			}
			both.Wait()
			require.Less(w, longest, 500*time.Millisecond)
			w.allGone()
		})
	}
}
