package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A call waits for its own caller as well if another session of the program holds the name, as
// the session that a Run has for itself does.
func TestUnderTheContextOfAnotherSessionsHoldACallIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		s, other := w.session("a"), w.session("a")
		again := WithReentry(5)
		lock := w.lock(NewMutex(s, "m"))
		set := w.lockAll(s, "x", "y")
		read := w.read(NewRWMutex(s, "r"))
		permit := w.acquire(NewSemaphore(s, "p", 5), 2)
		w.Client("a").ResetCounts()
		for what, call := range map[string]struct {
			under Held
			call  func(ctx context.Context) error
		}{
			"a lock":               {lock, func(ctx context.Context) error { return second(NewMutex(other, "m").Lock(ctx)) }},
			"a lock again":         {lock, func(ctx context.Context) error { return second(NewMutex(other, "m", again).Lock(ctx)) }},
			"a set":                {lock, func(ctx context.Context) error { return second(NewMultiMutex(other, []string{"l", "m"}).Lock(ctx)) }},
			"a lock in a set":      {set, func(ctx context.Context) error { return second(NewMutex(other, "y").Lock(ctx)) }},
			"a reader in a lock":   {lock, func(ctx context.Context) error { return second(NewRWMutex(other, "m").RLock(ctx)) }},
			"a permit in a lock":   {lock, func(ctx context.Context) error { return second(NewSemaphore(other, "m", 2).Acquire(ctx, 1)) }},
			"a writer in a reader": {read, func(ctx context.Context) error { return second(NewRWMutex(other, "r").Lock(ctx)) }},
			"a permit in a reader": {read, func(ctx context.Context) error { return second(NewSemaphore(other, "r", 2).Acquire(ctx, 1)) }},
			"a lock in a permit":   {permit, func(ctx context.Context) error { return second(NewMutex(other, "p").Lock(ctx)) }},
			"a try":                {lock, func(ctx context.Context) error { return second(NewMutex(other, "m").TryLock(ctx)) }},
		} {
			err := call.call(bounded(call.under.Context(), w, time.Minute))
			var deadlock *DeadlockError
			require.ErrorAs(w, err, &deadlock, what)
			require.ErrorContains(w, err, "another session of this client", what)
			if what == "a try" {
				require.ErrorIs(w, err, ErrLocked)
			}
		}
		require.Zero(w, w.Client("a").Count(unary...))

		// What is no wait for the caller goes on.
		beside, err := NewRWMutex(other, "r").RLock(read.Context())
		require.NoError(w, err)
		more, err := NewSemaphore(other, "p", 5).Acquire(permit.Context(), 3)
		require.NoError(w, err)
		free, err := NewMutex(other, "free").Lock(lock.Context())
		require.NoError(w, err)
		p := start(w, func(context.Context) (*Lock, error) { return NewMutex(w.session("b"), "m").Lock(lock.Context()) })
		p.isWaiting() // a client of its own may be one of another etcd
		for _, release := range []func(context.Context) error{
			beside.Unlock, more.Release, free.Unlock, lock.Unlock, set.Unlock, read.Unlock, permit.Release,
		} {
			w.unlock(release)
		}
		p.fails(ErrReleased)
		w.allGone()
	})
}

func TestUnderItsOwnTermACallIsADeadlockInARunWithItsOwnSession(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		err := NewElection(s, "e").Run(w.ctx, "v", func(ctx context.Context, _ *Term) error {
			ctx = bounded(ctx, w, time.Minute)
			_, err := NewMutex(s, "e").Lock(ctx)
			require.ErrorIs(w, err, ErrDeadlock)
			_, err = NewElection(s, "e").Campaign(ctx, "again")
			require.ErrorIs(w, err, ErrDeadlock)
			return nil
		}, WithStopTimeout(time.Second))
		require.NoError(w, err)
		w.allGone()
	})
}

func TestAnUpgradeUnderTheReadLockOfAnotherSessionIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		one, two := w.read(NewRWMutex(w.session("a"), "m")), w.read(NewRWMutex(w.session("a"), "m"))
		_, err := one.Upgrade(bounded(two.Context(), w, time.Minute))
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, one.Err(), "it is held as before")
		w.unlock(one.Unlock)
		w.unlock(two.Unlock)
		w.allGone()
	})
}
