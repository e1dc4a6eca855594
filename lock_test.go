package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestALockIsHandedOverInOrder(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m"), NewMutex(w.session("c"), "m")
		la := w.lock(a)
		waitB := start(w, b.Lock)
		w.pass(10 * time.Millisecond)
		waitC := start(w, c.Lock)
		w.pass(time.Second)
		waitB.isWaiting()
		waitC.isWaiting()

		require.NoError(t, la.Unlock(w.ctx))
		require.ErrorIs(t, la.Err(), ErrReleased)
		require.ErrorIs(t, context.Cause(la.Context()), ErrReleased)
		lb := waitB.get()
		require.Greater(t, lb.Token(), la.Token())
		waitC.isWaiting()

		require.NoError(t, lb.Unlock(w.ctx))
		lc := waitC.get()
		require.Greater(t, lc.Token(), lb.Token())
		require.NoError(t, lc.Unlock(w.ctx))
		w.empty("m")
	})
}

// trap A9
func TestUnlockingTwiceAndUnlockingWhatWasLostIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		l := w.lock(m)
		require.NoError(t, l.Unlock(w.ctx))
		require.ErrorIs(t, l.Unlock(w.ctx), ErrReleased)

		l = w.lock(m)
		w.RevokeLease(s.Lease())
		err := l.Unlock(w.ctx)
		require.ErrorIs(t, err, ErrLost)
		require.ErrorIs(t, err, ErrRevoked)
		require.False(t, errors.Is(err, ErrEvicted))
	})
}
