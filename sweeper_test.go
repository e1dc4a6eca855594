package etcdlock

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// trap A4: a request may lie in a connection that hangs for longer than etcd itself would keep
// it, while the lease is renewed by another one. The key that it leaves behind is still found.
func TestARequestThatArrivesAfterItWasLookedForLeavesNothing(t *testing.T) {
	for kind, acquire := range map[string]func(context.Context, *Session) error{
		"mutex":  func(ctx context.Context, s *Session) error { _, err := NewMutex(s, "m").Lock(ctx); return err },
		"reader": func(ctx context.Context, s *Session) error { _, err := NewRWMutex(s, "m").RLock(ctx); return err },
		"semaphore": func(ctx context.Context, s *Session) error {
			_, err := NewSemaphore(s, "m", 2).Acquire(ctx, 1)
			return err
		},
		"several": func(ctx context.Context, s *Session) error {
			_, err := NewMultiMutex(s, []string{"m", "n"}).Lock(ctx)
			return err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b := w.session("a"), w.session("b")
				w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: sweeper.LateEffect + 5*time.Second})
				require.ErrorIs(w, acquire(w.timeout(100*time.Millisecond), a), context.DeadlineExceeded)
				w.pass(sweeper.LateEffect + 6*time.Second)
				require.NotEmpty(w, w.Keys("m/"), "this is what the test is about")
				began := time.Now()
				l, err := NewMultiMutex(b, []string{"m", "n"}).Lock(w.timeout(time.Minute))
				require.NoError(w, err)
				require.Less(w, time.Since(began), sweeper.LateSweeps[0])
				require.NoError(w, l.Unlock(w.ctx))
				w.pass(time.Minute)
				w.allGone()
			})
		})
	}
}

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
		require.LessOrEqual(w, suspected(s), 2)
		w.Intercept(nil)
		w.pass(3 * sweeper.LateEffect)
		require.Zero(w, suspected(s))
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
		w.pass(2 * sweeper.LateEffect)
		require.Zero(w, suspected(s))
		w.empty("m")
		w.allGone()
	})
}

// suspected is how many keys of a session may be written yet.
func suspected(s *Session) int { return s.manager.Snapshot().Keys.Suspected }

// puts tells whether a request is to write a key.
func puts(c simetcd.Call) bool {
	req, _ := c.Req.(*pb.TxnRequest)
	return slices.ContainsFunc(req.GetSuccess(), func(op *pb.RequestOp) bool { return op.GetRequestPut() != nil })
}

// report R10
func TestManyCancelledCallsAreLookedAfterByOneGoroutineWithFewRequests(t *testing.T) {
	const calls = 500
	for name, act := range map[string]simetcd.Action{
		"whose requests have come":  {DelayReply: 100 * time.Millisecond},
		"whose requests never come": {DropRequest: true},
		"whose requests come late":  {DelayRequest: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				w.pass(ttl / 2) // until the stream of renewals is there
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					if c.Client == "a" && c.Kind == simetcd.Txn && puts(c) {
						return act
					}
					return simetcd.Action{}
				})
				before, txns := len(simetcd.Goroutines()), w.Client("a").Count(simetcd.Txn)
				for i := range calls {
					m := NewMutex(s, fmt.Sprintf("m%d", i))
					p := begin(w, m.Lock)
					w.pass(200 * time.Microsecond)
					p.cancel()
					p.fails(context.Canceled)
				}
				w.Intercept(nil)
				w.pass(100 * time.Millisecond)
				few := func() {
					stacks := simetcd.Goroutines()
					require.LessOrEqual(w, len(stacks), before+calls/10, strings.Join(stacks, "\n\n"))
				}
				few() // the sweeper, and what the simulated etcd has for its requests
				w.pass(3 * time.Minute)
				require.Empty(w, w.Keys("m"))
				require.Zero(w, s.manager.Snapshot().Keys.Uncertain)
				require.False(w, s.manager.Snapshot().Keys.Running)
				few()
				more := w.Client("a").Count(simetcd.Txn) - txns - calls
				require.Less(w, more, calls, "they are read together")
				w.allGone()
			})
		})
	}
}
