package concurrency

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// referee knows which programs believe to hold.
type referee struct {
	mu     sync.Mutex
	inside map[*Session]bool
	worst  int
	held   int
	last   int64 // the largest revision so far
	back   int   // how often it went back
}

// enter notes a hold; it is over with leave, or with the session.
func (r *referee) enter(s *Session, rev int64) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rev <= r.last {
		r.back++
	}
	r.last = rev
	r.held++
	r.inside[s] = s.Ctx().Err() == nil
	n := 0
	for _, in := range r.inside {
		if in {
			n++
		}
	}
	r.worst = max(r.worst, n)
	out := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.inside, s)
	}
	stop := context.AfterFunc(s.Ctx(), out)
	return func() {
		stop()
		out()
	}
}

// Programs as they are written for etcd's package: a program that loses its session creates a new one.
// Their connections fail in every way, and raft leaders change, which lets leases live on.
func TestAFleetIsExclusiveUnderFaults(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			simulate(t, func(w *world) {
				rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // reproducible on purpose
				r := &referee{inside: make(map[*Session]bool)}
				ctx, cancel := context.WithCancel(w.ctx)
				var fleet sync.WaitGroup
				names := []string{"a", "b", "c"}
				for i, name := range names {
					work := rand.New(rand.NewPCG(seed, uint64(i+1))) //nolint:gosec // reproducible on purpose
					fleet.Go(func() {
						for ctx.Err() == nil {
							s, err := NewSession(w.Client(name).Client, WithTTL(3), WithContext(ctx))
							if err != nil {
								continue
							}
							program(ctx, s, r, work)
							_ = s.Close()
						}
					})
				}
				for range 40 {
					c := w.Client(names[rnd.IntN(3)])
					switch rnd.IntN(5) {
					case 0:
						c.Cut()
					case 1:
						c.CutReplies()
					case 2:
						c.SetLatency(time.Millisecond, 1500*time.Millisecond)
					case 3:
						w.NewLeader()
					case 4:
						c.Reset()
					}
					w.pass(time.Duration(rnd.IntN(6000)) * time.Millisecond)
					if rnd.IntN(2) == 0 {
						c.Resume() // what was stopped comes late
					} else {
						c.Heal()
					}
					c.SetLatency(500*time.Microsecond, 1500*time.Microsecond)
				}
				cancel()
				fleet.Wait()
				require.LessOrEqual(w, r.worst, 1, "holders at a time")
				require.Zero(w, r.back, "revisions that did not grow")
				require.Greater(w, r.held, 10)
			})
		})
	}
}

// program locks and works until its session ends.
func program(ctx context.Context, s *Session, r *referee, work *rand.Rand) {
	m := NewMutex(s, "m")
	for s.Ctx().Err() == nil {
		if m.Lock(ctx) != nil {
			continue
		}
		leave := r.enter(s, m.Header().Revision)
		select {
		case <-time.After(time.Duration(work.IntN(5000)) * time.Millisecond):
		case <-s.Done():
		}
		leave()
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		_ = m.Unlock(bounded) // over here, whatever comes of it
		cancel()
	}
}
