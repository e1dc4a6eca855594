package etcdlock

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Many enters of one key that were not answered, while the key is nearly always in use, are
// looked after by one goroutine.
func TestLeftoversOfABusyKeyDoNotPileUp(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		var n atomic.Int64
		lost := true
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropReply: c.Client == "a" && c.Kind == simetcd.Txn && lost && n.Add(1)%2 == 1}
		})
		m := NewMutex(s, "m", WithTimeSlice(0))
		for range 50 {
			lost = true
			l := w.lock(m)
			lost = false
			w.pass(700 * time.Millisecond)
			w.unlock(l.Unlock)
		}
		s.mu.Lock()
		left := len(s.leftovers)
		s.mu.Unlock()
		require.LessOrEqual(w, left, 2)
		w.Intercept(nil)
		w.pass(3 * lateEffect)
		require.Empty(w, s.leftovers)
		w.empty("m")
		w.allGone()
	})
}

// What comes late is cleared away even if the key was being looked after already.
func TestALeftoverAfterAnotherIsClearedAway(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithTimeSlice(0))
		for range 2 {
			w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 9 * time.Second})
			l := w.lock(m)
			w.unlock(l.Unlock)
			w.pass(5 * time.Second)
		}
		w.pass(2 * lateEffect)
		require.Empty(w, s.leftovers)
		w.empty("m")
		w.allGone()
	})
}
