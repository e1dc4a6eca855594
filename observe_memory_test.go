package etcdlock

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// report E4
func TestWhatAnObservationKeepsIsBounded(t *testing.T) {
	for name, pace := range map[string]time.Duration{"fast": 0, "slow": 2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("o")
				o := w.observe(NewElection(s, "e"), pace)
				term := w.campaign(NewElection(w.session("a"), "e"), "A")
				var first weak.Pointer[mvccpb.KeyValue]
				for i := range 300 {
					require.NoError(w, term.Proclaim(w.ctx, fmt.Sprint(i, strings.Repeat("x", 100_000))))
					w.pass(10 * time.Millisecond)
					if i == 0 {
						s.mu.Lock()
						first = weak.Make(s.observations["e"].latest.First)
						s.mu.Unlock()
					}
				}
				w.Compact(0)
				if pace == 0 {
					require.Len(w, o.all(), 302, "all were told")
					o.forget()
				}
				runtime.GC()
				require.True(w, first.Value() == nil, "the first change is still kept")
				s.mu.Lock()
				kept, size := len(s.observations["e"].changes), s.observations["e"].size
				s.mu.Unlock()
				require.LessOrEqual(w, size, mostBytes)

				w.pass(time.Hour) // in which the queue is read 360 times
				s.mu.Lock()
				require.Len(w, s.observations["e"].changes, kept)
				s.mu.Unlock()
				if pace > 0 {
					w.pass(time.Duration(kept) * pace)
					seen := o.all()
					require.Len(w, seen, 1+kept)
					require.True(w, strings.HasPrefix(seen[len(seen)-1].Value, "299"), "the last change is never dropped")
				}
			})
		})
	}
}

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
