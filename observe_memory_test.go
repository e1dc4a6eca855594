package etcdlock

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

// report E4
func TestACallbackThatHangsDoesNotPileUpLeaders(t *testing.T) {
	simulate(t, func(w *world) {
		var told []string
		hang := make(chan struct{})
		n := startNotices()
		tell := func(l Leader) {
			<-hang
			told = append(told, l.Value)
		}
		for i := range 10 * mostChanges {
			n.leader(Leader{Value: fmt.Sprint(i)}, tell)
			w.pass(0)
		}
		n.mu.Lock()
		require.Len(w, n.leaders, mostChanges)
		require.Len(w, n.queue, mostChanges)
		n.mu.Unlock()
		close(hang)
		n.end()
		require.Len(w, told, mostChanges+1)
		require.Equal(w, fmt.Sprint(10*mostChanges-1), told[mostChanges])
	})
}

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
