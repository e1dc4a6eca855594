package etcdlock

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// What may be left of an unanswered enter is cleared away by the line that lined up by
// itself, but not while the reader that its writer has become holds by that very key.
func TestADowngradedHoldIsNotTakenForAKeyThatWasLeftBehind(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first := w.write(NewRWMutex(s, "m"))
		other := w.lock(NewMutex(s, "other"))
		var lost atomic.Bool
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropReply: c.Client == "a" && c.Kind == simetcd.Txn && !lost.Swap(true)}
		})
		m := NewRWMutex(s, "m", WithDeadlockDetection(""))
		wait := start(w, func(context.Context) (*WriteLock, error) { return m.Lock(other.Context()) })
		w.pass(2 * time.Second)
		w.unlock(first.Unlock)
		r := start(w, wait.get().Downgrade).get()
		writer := start(w, NewRWMutex(w.session("b"), "m").Lock)
		w.pass(3 * sweeper.LateEffect)
		require.NoError(w, r.Err())
		writer.isWaiting()
		w.unlock(r.Unlock)
		w.unlock(writer.get().Unlock)
		w.unlock(other.Unlock)
		w.pass(3 * sweeper.LateEffect)
		require.Zero(w, s.manager.Snapshot().Queues)
		require.Zero(w, suspected(s))
		w.empty("m")
		w.allGone()
	})
}
