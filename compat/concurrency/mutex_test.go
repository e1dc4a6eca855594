package concurrency

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	v3 "go.etcd.io/etcd/client/v3"
	etcd "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestALockGoesFromSessionToSession(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		require.Nil(w, a.Header())
		require.Empty(w, a.Key())
		require.NoError(w, a.Lock(w.ctx))
		require.Equal(w, string(w.Keys("m/")[0].Key), a.Key())
		require.True(w, w.isOwner(a))
		require.True(w, b.TryLock(w.ctx) == ErrLocked) //nolint:errorlint // programs compare so
		require.False(w, w.isOwner(b))
		require.Equal(w, "\x00", b.Key())

		waiting := w.start(b.Lock)
		waiting.isWaiting()
		require.NoError(w, a.Unlock(w.ctx))
		require.NoError(w, waiting.result())
		require.False(w, w.isOwner(a))
		require.True(w, w.isOwner(b))
		require.Greater(w, b.Header().Revision, a.Header().Revision)
		require.Nil(w, a.Hold())
		require.Equal(w, b.Header().Revision, b.Hold().Token())
		require.NoError(w, b.Unlock(w.ctx))
		require.Empty(w, w.Keys(""))
	})
}

// Two acquisitions of one session are told apart by IsOwner, and by the revision.
func TestEveryAcquisitionOfASessionIsOneOfItsOwn(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first, second := NewMutex(s, "m"), NewMutex(s, "m")
		require.NoError(w, first.Lock(w.ctx))
		stale := first.IsOwner()
		waiting := w.start(second.Lock)
		require.NoError(w, first.Unlock(w.ctx))
		require.NoError(w, waiting.result())
		require.Greater(w, second.Header().Revision, first.Header().Revision)
		resp, err := w.Client("judge").Txn(w.ctx).If(stale).Commit()
		require.NoError(w, err)
		require.False(w, resp.Succeeded)
		require.NoError(w, second.Unlock(w.ctx))
	})
}

func TestAPrefixMayEndInASlash(t *testing.T) {
	simulate(t, func(w *world) {
		theirs, err := etcd.NewSession(w.Client("etcd").Client, etcd.WithTTL(10))
		require.NoError(w, err)
		defer theirs.Close()
		for _, pfx := range []string{"/my-lock/", "/my-lock", "my//lock", "/"} {
			m, foreign := NewMutex(w.session("a"), pfx), etcd.NewMutex(theirs, pfx)
			require.NoError(w, m.Lock(w.ctx), pfx)
			require.ErrorIs(w, foreign.TryLock(w.ctx), ErrLocked, pfx)
			require.NoError(w, m.Unlock(w.ctx))
			require.NoError(w, foreign.Lock(w.ctx))
			require.ErrorIs(w, m.TryLock(w.ctx), ErrLocked, pfx)
			require.NoError(w, foreign.Unlock(w.ctx))
		}
		require.ErrorIs(w, NewMutex(w.session("a"), "").Lock(w.ctx), etcdlock.ErrInvalidName)
	})
}

func TestUnlockOfWhatIsNotLocked(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		require.True(w, m.Unlock(w.ctx) == ErrLockReleased) //nolint:errorlint // programs compare so
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, m.Unlock(w.ctx))
		require.True(w, m.Unlock(w.ctx) == ErrLockReleased) //nolint:errorlint // programs compare so
	})
}

// trap A9
func TestUnlockOfWhatWasLostTellsSo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		w.DeleteKey(m.Key())
		w.pass(time.Second)
		err := m.Unlock(w.ctx)
		require.ErrorIs(w, err, etcdlock.ErrEvicted)
		require.NotErrorIs(w, err, ErrSessionExpired, "the session lives")
		require.ErrorIs(w, m.Unlock(w.ctx), ErrLockReleased)

		require.NoError(w, m.Lock(w.ctx))
		w.RevokeLease(s.Lease())
		<-s.Done()
		err = m.Unlock(w.ctx)
		require.ErrorIs(w, err, ErrSessionExpired)
		require.ErrorIs(w, err, etcdlock.ErrRevoked)
		require.ErrorIs(w, m.Unlock(w.ctx), ErrLockReleased)
	})
}

// The order of two defers often is the wrong one.
func TestUnlockAfterTheSessionWasClosedIsNoError(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, s.Close())
		require.NoError(w, m.Unlock(w.ctx))
		require.ErrorIs(w, m.Lock(w.ctx), ErrSessionExpired)
	})
}

// trap A10
func TestAnUnlockWithoutAnAnswerCanBeRepeated(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		m := NewMutex(w.session("a"), "m")
		require.NoError(w, m.Lock(w.ctx))
		c.CutReplies()
		require.ErrorIs(w, m.Unlock(w.timeout(time.Second)), context.DeadlineExceeded)
		require.ErrorIs(w, m.Unlock(w.timeout(time.Second)), context.DeadlineExceeded, "still not confirmed")
		c.Heal()
		require.NoError(w, m.Unlock(w.ctx))
		require.ErrorIs(w, m.Unlock(w.ctx), ErrLockReleased)
		require.Empty(w, w.Keys(""))
	})
}

// trap A1
func TestASessionThatLocksTwiceTakesTurnsAndIsWarned(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m, other := NewMutex(s, "m"), NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		require.ErrorIs(w, other.TryLock(w.ctx), ErrLocked)
		require.Empty(w, w.logs.All())
		waiting := w.start(other.Lock)
		again := w.start(m.Lock)
		w.pass(time.Minute)
		waiting.isWaiting()
		again.isWaiting()
		require.Len(w, w.logs.FilterMessageSnippet("waits for another goroutine of its session").All(), 1)

		require.NoError(w, m.Unlock(w.ctx))
		require.NoError(w, waiting.result())
		again.isWaiting()
		require.NoError(w, other.Unlock(w.ctx))
		require.NoError(w, again.result())
		require.NoError(w, m.Unlock(w.ctx))
	})
}

func TestTheContextOfAHoldIsNoWayIn(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		require.NoError(w, m.Lock(w.ctx))
		lock := m.Hold()
		require.ErrorIs(w, m.Lock(lock.Context()), etcdlock.ErrDeadlock)
		require.ErrorIs(w, m.TryLock(lock.Context()), ErrLocked)
		require.NoError(w, m.Unlock(w.ctx))
		require.Empty(w, w.Keys(""))
	})
}

// trap A2
func TestGoroutinesMayShareAMutex(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		inside, most := 0, 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					if m.Lock(w.ctx) != nil {
						return
					}
					inside++ // the race detector looks on
					most = max(most, inside)
					time.Sleep(time.Millisecond)
					inside--
					_ = m.Unlock(w.ctx)
				}
			})
		}
		wg.Wait()
		require.Equal(w, 1, most)
		require.Empty(w, w.Keys(""))
	})
}

func TestWithReentryASessionLocksTwice(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithReentry())
		m, other, third := NewMutex(s, "m"), NewMutex(s, "m"), NewMutex(s, "m")
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, other.Lock(w.ctx))
		require.NoError(w, third.TryLock(w.ctx))
		require.Equal(w, m.Key(), other.Key())
		require.Equal(w, m.Header().Revision, other.Header().Revision)
		require.Empty(w, w.logs.All())
		stranger := NewMutex(w.session("b"), "m")
		require.ErrorIs(w, stranger.TryLock(w.ctx), ErrLocked)

		require.NoError(w, other.Unlock(w.ctx))
		require.NoError(w, stranger.Lock(w.ctx), "the first Unlock releases it")
		require.NoError(w, m.Unlock(w.ctx))
		require.True(w, w.isOwner(stranger), "trap A8: the second one touches nobody else's")
		require.NoError(w, stranger.Unlock(w.ctx))
		require.NoError(w, third.Unlock(w.ctx))
		require.NoError(w, m.Lock(w.ctx))
		require.NoError(w, m.Unlock(w.ctx))
		require.Empty(w, s.locks.slots)
	})
}

// trap A3
func TestWithReentryACancelledWaitDoesNotCostTheOthersThePlace(t *testing.T) {
	simulate(t, func(w *world) {
		holder := NewMutex(w.session("a"), "m")
		require.NoError(w, holder.Lock(w.ctx))
		s := w.session("b", WithReentry())
		first, second, third := w.start(NewMutex(s, "m").Lock), w.start(NewMutex(s, "m").Lock), w.start(NewMutex(s, "m").Lock)
		last := w.start(NewMutex(w.session("c"), "m").Lock)
		key := string(w.Keys("m/")[1].Key)
		first.cancel()
		require.ErrorIs(w, first.result(), context.Canceled)
		w.pass(time.Second)
		require.Len(w, w.Keys("m/"), 3)
		require.Equal(w, key, string(w.Keys("m/")[1].Key))
		second.isWaiting()
		require.NoError(w, holder.Unlock(w.ctx))
		require.NoError(w, second.result())
		require.NoError(w, third.result(), "it is the session's")
		last.isWaiting()
		require.NoError(w, s.Close())
		require.NoError(w, last.result())
	})
}

func TestACancelledLockReturnsTheContextsErrorAndLeavesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		require.NoError(w, a.Lock(w.ctx))
		waiting := w.start(b.Lock)
		waiting.cancel()
		require.True(w, waiting.result() == context.Canceled)                       //nolint:errorlint // programs compare so
		require.True(w, b.Lock(w.timeout(time.Second)) == context.DeadlineExceeded) //nolint:errorlint // programs compare so
		w.pass(time.Second)
		require.Len(w, w.Keys("m/"), 1)
		require.ErrorIs(w, b.Unlock(w.ctx), ErrLockReleased)
	})
}

// trap A4
func TestALockWhoseAnswerIsLostLeavesNoPhantom(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		require.Error(w, a.Lock(w.timeout(time.Second)))
		require.NoError(w, b.Lock(w.timeout(30*time.Second)))
		require.NoError(w, b.Unlock(w.ctx))
	})
}

// traps A5, A6
func TestAWaitThatLosesItsPlaceIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		holder := NewMutex(w.session("a"), "m")
		require.NoError(w, holder.Lock(w.ctx))
		s := w.session("b")
		waiting := w.start(NewMutex(s, "m").Lock)
		w.DeleteKey(string(w.Keys("m/")[1].Key))
		require.True(w, waiting.result() == ErrSessionExpired) //nolint:errorlint // programs compare so

		waiting = w.start(NewMutex(s, "m").Lock)
		require.NoError(w, s.Close())
		require.True(w, waiting.result() == ErrSessionExpired) //nolint:errorlint // programs compare so
		require.NoError(w, holder.Unlock(w.ctx))
	})
}

// trap A7
func TestAWaitKeepsItsPlaceOverACompaction(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		require.NoError(w, a.Lock(w.ctx))
		waiting := w.start(b.Lock)
		for range 10 {
			w.PutKey("other", "x", v3.NoLease)
		}
		w.CutWatches()
		w.Compact(0)
		w.pass(time.Minute)
		waiting.isWaiting()
		require.NoError(w, a.Unlock(w.ctx))
		require.NoError(w, waiting.result())
	})
}

func TestALockerPanicsOnlyWhenItCannotLock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := NewLocker(s, "m")
		require.PanicsWithError(w, `unlock "m": mutex: lock has already been released`, l.Unlock)
		l.Lock()
		require.ErrorIs(w, NewMutex(w.session("b"), "m").TryLock(w.ctx), ErrLocked)
		l.Unlock()
		require.Empty(w, w.Keys(""))

		l.Lock()
		w.RevokeLease(s.Lease())
		<-s.Done()
		l.Unlock() // trap A17
		logged := w.logs.FilterMessage("a lock was lost before Unlock; another process may have worked at the same time").All()
		require.Len(w, logged, 1)
		require.Equal(w, "m", logged[0].ContextMap()["name"])
		require.PanicsWithError(w, `lock "m": mutex: session is expired`, l.Lock)
	})
}
