package etcdlock

import (
	"context"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

// report E4: a state is not kept for the sake of those that listened to an earlier one.
func TestTheStatesOfASessionAreNotKept(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		ctx, cancel := context.WithCancel(w.ctx)
		seen := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range s.States(ctx) {
				seen++
			}
		}()
		s.mu.Lock()
		first := weak.Make(s.state)
		s.mu.Unlock()
		for range 3 {
			w.Client("a").Cut()
			w.pass(5 * time.Second)
			w.Client("a").Heal()
			w.pass(10 * time.Second)
		}
		runtime.GC()
		require.Nil(w, first.Value())
		cancel()
		<-done
		require.Greater(w, seen, 4)
	})
}
