package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// A reader with a key of its own that is being upgraded when its session is left to a successor leaves
// the key of a reader.
func TestAnOrphanTakesBackTheMarkOfAnUpgradeThatLinedUpByItself(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first := w.write(NewRWMutex(s, "m"))
		other := w.lock(NewMutex(s, "other"))
		m := NewRWMutex(s, "m", WithDeadlockDetection(""))
		wait := start(w, func(context.Context) (*ReadLock, error) { return m.RLock(other.Context()) })
		w.pass(time.Second)
		beside := start(w, NewRWMutex(w.session("b"), "m").RLock)
		w.pass(time.Second)
		w.unlock(first.Unlock)
		r := wait.get()
		in := beside.get()
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		up.isWaiting()
		key := r.Key()
		require.Equal(w, wire.Upgrading, wire.Wants(w.Get(key).Value).Mode)
		w.orphan(s)
		up.fails(ErrOrphaned)
		require.Equal(w, wire.Shared, wire.Wants(w.Get(key).Value).Mode)
		w.unlock(in.Unlock)
	})
}
