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

// What an unanswered candidacy of one priority leaves behind is cleared away while one of
// another priority waits, of the same session.
func TestALeftoverOfAnotherPriorityIsClearedAway(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		var late atomic.Bool
		began := time.Now()
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn && !late.Swap(true) {
				return simetcd.Action{DelayRequest: 4 * time.Second}
			}
			return simetcd.Action{}
		})
		term := start(w, func(ctx context.Context) (*Term, error) {
			return NewElection(s, "e", WithPriority(3)).Campaign(ctx, "first")
		}).get()
		require.NoError(w, term.Resign(w.ctx))
		w.empty("e")
		w.pass(time.Until(began.Add(4*time.Second + 10*time.Millisecond)))
		require.Len(w, w.Keys("e/"), 1, "the late effect")
		second := start(w, func(ctx context.Context) (*Term, error) {
			return NewElection(s, "e").Campaign(ctx, "second")
		})
		w.pass(2 * sweeper.LateEffect)
		require.NoError(w, second.get().Resign(w.ctx))
		w.pass(2 * sweeper.LateEffect)
		require.Zero(w, suspected(s))
		w.allGone()
	})
}
