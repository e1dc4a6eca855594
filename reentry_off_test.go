package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bounded is a context that carries a hold, with a deadline.
func bounded(ctx context.Context, w *world, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	w.Cleanup(cancel)
	return ctx
}

// A call under the context of a hold of its name would wait for its own caller, whatever kinds
// the two are. The context of a hold is what workers are given: two of them that lock the same
// name must not both hold it.
func TestUnderItsOwnContextEveryKindIsADeadlock(t *testing.T) {
	type held struct {
		ctx context.Context
		key string
	}
	of := func(h hold, err error) (held, error) {
		if err != nil {
			return held{}, err
		}
		return held{h.Context(), h.Key()}, nil
	}
	kinds := map[string]func(ctx context.Context, s *Session, try bool) (held, error){
		"Mutex": func(ctx context.Context, s *Session, try bool) (held, error) {
			l := NewMutex(s, "m").Lock
			if try {
				l = NewMutex(s, "m").TryLock
			}
			got, err := l(ctx)
			if err != nil {
				return held{}, err
			}
			return of(got.hold, nil)
		},
		"writer": func(ctx context.Context, s *Session, try bool) (held, error) {
			l := NewRWMutex(s, "m").Lock
			if try {
				l = NewRWMutex(s, "m").TryLock
			}
			got, err := l(ctx)
			if err != nil {
				return held{}, err
			}
			return of(got.hold, nil)
		},
		"reader": func(ctx context.Context, s *Session, try bool) (held, error) {
			l := NewRWMutex(s, "m").RLock
			if try {
				l = NewRWMutex(s, "m").TryRLock
			}
			got, err := l(ctx)
			if err != nil {
				return held{}, err
			}
			return of(got.hold, nil)
		},
		"permit": func(ctx context.Context, s *Session, try bool) (held, error) {
			l := NewSemaphore(s, "m", 3).Acquire
			if try {
				l = NewSemaphore(s, "m", 3).TryAcquire
			}
			got, err := l(ctx, 1)
			if err != nil {
				return held{}, err
			}
			return of(got.hold, nil)
		},
		"set": func(ctx context.Context, s *Session, try bool) (held, error) {
			l := NewMultiMutex(s, []string{"other", "m"}).Lock
			if try {
				l = NewMultiMutex(s, []string{"other", "m"}).TryLock
			}
			got, err := l(ctx)
			if err != nil {
				return held{}, err
			}
			return held{got.Context(), got.Keys()[1]}, nil
		},
		"term": func(ctx context.Context, s *Session, try bool) (held, error) {
			got, err := NewElection(s, "m").Campaign(ctx, "v")
			if err != nil {
				return held{}, err
			}
			return of(got.hold, nil)
		},
	}
	for outer, hold := range kinds {
		t.Run(outer, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				l, err := hold(w.ctx, s, false)
				require.NoError(w, err)
				ctx := bounded(l.ctx, w, time.Minute)
				w.Client("a").ResetCounts()
				for inner, call := range kinds {
					for _, try := range []bool{false, true} {
						_, err := call(ctx, s, try)
						require.ErrorIs(w, err, ErrDeadlock, "%s, %v", inner, try)
						require.Equal(w, try && inner != "term", errors.Is(err, ErrLocked), "%s, %v: %v", inner, try, err)
						var deadlock *DeadlockError
						require.ErrorAs(w, err, &deadlock)
						require.Len(w, deadlock.Cycle, 1)
						require.Contains(w, deadlock.Cycle[0].Waiter.Holds, l.key)
						require.Empty(w, deadlock.Cycle[0].Waiter.Key)
						require.Contains(w, deadlock.Cycle[0].Waiter.Holds, deadlock.Cycle[0].For.Key)
						require.True(w, deadlock.Cycle[0].For.Holding)
						require.ErrorContains(w, err, "would wait for")
					}
				}
				// A session's first campaign asks once what an earlier process has left.
				require.LessOrEqual(w, w.Client("a").Count(unary...), 1)
			})
		})
	}
}

func TestTwoWorkersUnderOneHoldDoNotBothHold(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		err := m.Do(w.ctx, func(ctx context.Context, _ *Lock) error {
			ctx = bounded(ctx, w, time.Minute)
			work := func(context.Context) (*Lock, error) {
				return nil, m.Do(ctx, func(context.Context, *Lock) error { return nil })
			}
			one, other := start(w, work), start(w, work)
			one.fails(ErrDeadlock)
			other.fails(ErrDeadlock)
			return nil
		})
		require.NoError(w, err)
		require.NoError(w, w.lock(m).Unlock(w.ctx), "and nothing of them is left in the line")
		w.allGone()
	})
}

// With re-entry too: the hold has to cover what the call asks for.
func TestReentryIsRefusedBeyondWhatIsHeld(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		again := WithReentry(5)
		set := w.lockAll(s, "x", "y")
		read := w.read(NewRWMutex(s, "r"))
		permit := w.acquire(NewSemaphore(s, "p", 5), 2)
		for what, call := range map[string]func() error{
			"a writer in a reader": func() error { _, err := NewRWMutex(s, "r", again).Lock(read.Context()); return err },
			"a mutex in a reader":  func() error { _, err := NewMutex(s, "r", again).Lock(read.Context()); return err },
			"a permit in a reader": func() error { _, err := NewSemaphore(s, "r", 5, again).Acquire(read.Context(), 1); return err },
			"a reader in a permit": func() error { _, err := NewRWMutex(s, "p", again).RLock(permit.Context()); return err },
			"too many permits":     func() error { _, err := NewSemaphore(s, "p", 5, again).Acquire(permit.Context(), 3); return err },
			"a permit in a set":    func() error { _, err := NewSemaphore(s, "x", 5, again).Acquire(set.Context(), 1); return err },
			"a term in a set":      func() error { _, err := NewElection(s, "x").Campaign(set.Context(), "v"); return err },
		} {
			require.ErrorIs(w, call(), ErrDeadlock, what)
		}
		for _, release := range []func(context.Context) error{set.Unlock, read.Unlock, permit.Release} {
			w.unlock(release)
		}
		w.allGone()
	})
}

// An upgrade waits until the other readers have left.
func TestAnUpgradeUnderTheContextOfAnotherReadLockIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewRWMutex(s, "m", WithReentry(2))
		one, two := w.read(m), w.read(m)
		_, err := one.Upgrade(bounded(two.Context(), w, time.Minute))
		var deadlock *DeadlockError
		require.ErrorAs(w, err, &deadlock)
		require.Equal(w, two.Key(), deadlock.Cycle[0].For.Key)
		require.Equal(w, ModeUpgrading, deadlock.Cycle[0].Waiter.Mode)
		require.NoError(w, one.Err(), "it is held as before")
		within, err := m.RLock(one.Context())
		require.NoError(w, err)
		w.unlock(two.Unlock)
		up, err := one.Upgrade(within.Context())
		require.NoError(w, err, "of one turn they do not wait for each other")
		w.unlock(up.Unlock)
		w.unlock(within.Unlock)
		w.empty("m")
		w.allGone()
	})
}
