package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A late or lost answer to the request for a lease leaves no lease behind: the next try asks for the
// same lease.
func TestAGrantThatIsTriedAgainLeavesNoOtherLease(t *testing.T) {
	first := func(act simetcd.Action) func(n int) simetcd.Action {
		return func(n int) simetcd.Action {
			if n == 1 {
				return act
			}
			return simetcd.Action{}
		}
	}
	for what, fault := range map[string]func(n int) simetcd.Action{
		"each answer takes longer than the first tries": func(int) simetcd.Action { return simetcd.Action{DelayReply: 1500 * time.Millisecond} },
		"an answer is late":                             first(simetcd.Action{DelayReply: 4 * time.Second}),
		"an answer is lost":                             first(simetcd.Action{DropReply: true}),
		"a request is late":                             first(simetcd.Action{DelayRequest: 4 * time.Second}),
		"a request is lost":                             first(simetcd.Action{DropRequest: true}),
		"the lease expires before it is heard of": func(n int) simetcd.Action {
			if n < 12 {
				return simetcd.Action{DropReply: true}
			}
			return simetcd.Action{}
		},
	} {
		for _, when := range []string{"at the start", "after a loss"} {
			t.Run(what+", "+when, func(t *testing.T) {
				simulate(t, func(w *world) {
					faulty := func() {
						n := 0
						w.Intercept(func(c simetcd.Call) simetcd.Action {
							if c.Kind != simetcd.LeaseGrant {
								return simetcd.Action{}
							}
							n++
							return fault(n)
						})
					}
					var s *Session
					if when == "at the start" {
						faulty()
						s = w.session("a")
					} else {
						s = w.session("a")
						faulty()
						require.True(w, w.RevokeLease(s.Lease()))
						_, err := NewMutex(s, "m").Lock(w.ctx)
						for ; err != nil; _, err = NewMutex(s, "m").Lock(w.ctx) {
							require.ErrorIs(w, err, ErrLost)
						}
					}
					lock := w.lock(NewMutex(s, "n"))
					require.Contains(w, w.Leases(), s.Lease())
					require.False(w, lock.Deadline().After(w.LeaseExpiry(s.Lease())), "it is not believed in for longer than etcd keeps it")
					require.Len(w, w.Leases(), 1)
					w.pass(5 * time.Second) // and what is late has come
					require.Len(w, w.Leases(), 1)
					require.NoError(w, lock.Err())
					require.NoError(w, s.Close(context.Background()))
					require.Empty(w, w.Leases())
				})
			})
		}
	}
}
