package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAContextTellsItsInnermostHold(t *testing.T) {
	simulate(t, func(w *world) {
		_, ok := HoldOf(w.ctx)
		require.False(w, ok)
		s := w.session("a")
		outer := w.lock(NewMutex(s, "outer"))
		h, ok := HoldOf(outer.Context())
		require.True(w, ok)
		require.Equal(w, outer.Token(), h.Token())
		require.Equal(w, outer.Deadline(), h.Deadline())
		require.Equal(w, outer.Done(), h.Done())
		var inner *Lock
		require.NoError(w, NewMutex(s, "inner").Do(outer.Context(), func(ctx context.Context, l *Lock) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			h, ok = HoldOf(ctx)
			require.True(w, ok)
			require.Equal(w, l.Token(), h.Token())
			require.NoError(w, h.Err())
			inner = l
			return nil
		}))
		require.ErrorIs(w, h.Err(), ErrReleased)
		require.Equal(w, inner.Err(), h.Err())
		require.Zero(w, h.Deadline())
		w.unlock(outer.Unlock)
		_, ok = HoldOf(outer.Context())
		require.True(w, ok, "also after its end")
	})
}

// A function that gets a hold from its context can use it, and cannot end it.
func TestTheHoldOfAContextCanNotBeReleased(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		set := w.lockAll(s, "x", "y")
		h, ok := HoldOf(set.Context())
		require.True(w, ok)
		require.Equal(w, set.Token(), h.Token())
		_, releases := h.(interface{ Unlock(context.Context) error })
		_, guards := h.(interface{ Name() string }) // it has two
		require.False(w, releases || guards)
		w.unlock(set.Unlock)

		run := w.run(NewElection(s, "e"), func(ctx context.Context, term *Term) error {
			h, ok := HoldOf(ctx)
			require.True(w, ok)
			require.Equal(w, term.Token(), h.Token())
			return nil
		})
		_, err := run.result()
		require.NoError(w, err)
	})
}

func TestTheHoldOfAContextIsLostWithItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m"))
		h, _ := HoldOf(l.Context())
		w.Client("a").Cut()
		w.pass(2 * ttl)
		require.ErrorIs(w, h.Err(), ErrExpired)
		require.ErrorIs(w, context.Cause(h.Context()), ErrExpired)
	})
}
