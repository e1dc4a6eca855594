package etcdlock

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A process that leaves its lease to a successor is not dead, and the record of the successor counts.
func TestALeaseThatIsLeftToASuccessorIsNotTakenForThatOfADeadProcess(t *testing.T) {
	for name, detects := range map[string]bool{"who detects crashes": true, "who does not": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				a := w.detecting(n, "a", "10.0.0.1:7400")
				term := w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Minute)
				id := w.orphan(a)
				w.pass(2 * time.Second)
				next.isWaiting()
				opts := []SessionOption{WithLease(id)}
				var again *Session
				if detects {
					again = w.detecting(n, "a2", "10.0.0.1:7401", opts...)
				} else {
					again = w.session("a2", opts...)
				}
				resumed := w.campaign(NewElection(again, "e"), "A")
				require.Equal(w, term.Key(), resumed.Key())
				w.pass(time.Minute)
				next.isWaiting()
				require.NoError(w, resumed.Err())
				if detects {
					died := time.Now()
					w.crash(n, "a2", "10.0.0.1:7401")
					next.get()
					require.Less(w, next.at.Sub(died), 300*time.Millisecond)
				}
			})
		})
	}
}

// putOfRecord is what a call writes to a liveness record; nil if it writes none.
func putOfRecord(c simetcd.Call) *wire.Liveness {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return nil
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), wire.LivenessPrefix) {
			record := wire.ParseLiveness(put.Value)
			return &record
		}
	}
	return nil
}

// The successor of a process that was killed and the candidate that found it dead cannot both have the lease.
func TestALeaseIsEitherTakenOverOrRevokedAsThatOfADeadProcess(t *testing.T) {
	for name, address := range map[string]string{
		"the successor listens elsewhere":                           "10.0.0.1:7401",
		"the successor is as the former process was, to the letter": "10.0.0.1:7400", // as in a container that was started again
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				a := w.detecting(n, "a", "10.0.0.1:7400")
				w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Second)
				id, marks := a.Lease(), 0
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					if record := putOfRecord(c); record != nil && record.Dead {
						marks++
						return simetcd.Action{DelayRequest: 500 * time.Millisecond}
					}
					return simetcd.Action{}
				})
				w.crash(n, "a", "10.0.0.1:7400")
				w.pass(100 * time.Millisecond)
				require.Equal(w, 1, marks, "the candidate has judged by the record of the former process")
				again := w.detecting(n, "a2", address, WithLease(id))
				w.pass(time.Minute)
				require.Equal(w, 1, marks)
				require.NoError(w, w.campaign(NewElection(again, "e"), "A").Err())
				next.isWaiting()
			})
		})
	}
	t.Run("the candidate is first", func(t *testing.T) {
		simulate(t, func(w *world) {
			n := newFakeNet()
			a := w.detecting(n, "a", "10.0.0.1:7400")
			w.campaign(NewElection(a, "e"), "A")
			next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
			w.pass(time.Second)
			id := a.Lease()
			w.next("b", simetcd.LeaseRevoke, simetcd.Action{DelayRequest: time.Second})
			w.crash(n, "a", "10.0.0.1:7400")
			w.pass(500 * time.Millisecond)
			require.Contains(w, w.Leases(), id, "it stands yet")
			c := w.Client("a2")
			_, err := NewSession(w.ctx, c.Client, WithLease(id), renewOn(c))
			require.ErrorIs(w, err, ErrLeaseNotFound)
			next.get()
		})
	})
}

func TestAnOrphanThatFailsLeavesTheProcessToBeWatchedAsBefore(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Second)
		w.heldUp("a", a)
		_, err := a.Orphan(w.timeout(300 * time.Millisecond))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		w.pass(10 * time.Second)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		next.get()
		require.Less(w, next.at.Sub(died), 300*time.Millisecond)
	})
}

// heldUp makes each Orphan of a session wait for a release that etcd confirms in about a second.
func (w *world) heldUp(client string, s *Session) {
	w.Helper()
	lock := w.lock(NewMutex(s, "other"))
	w.every(client, simetcd.Action{DropRequest: true}, simetcd.Txn)
	require.ErrorIs(w, lock.Unlock(w.timeout(100*time.Millisecond)), context.DeadlineExceeded)
	w.pass(50 * time.Millisecond)
	w.Intercept(nil)
}

func TestALeaseThatIsLeftStaysSoWhateverOtherCallsOfOrphanDo(t *testing.T) {
	for name, orphan := range map[string]func(w *world, a *Session) clientv3.LeaseID{
		"another one fails meanwhile": func(w *world, a *Session) clientv3.LeaseID {
			left := start(w, a.Orphan)
			_, err := a.Orphan(w.timeout(300 * time.Millisecond))
			require.ErrorIs(w, err, context.DeadlineExceeded)
			return left.get()
		},
		"one has failed before, and etcd applies late what that wrote": func(w *world, a *Session) clientv3.LeaseID {
			w.Intercept(func(c simetcd.Call) simetcd.Action {
				if record := putOfRecord(c); c.Client == "a" && record != nil && record.Address != "" {
					return simetcd.Action{DelayRequest: 2 * time.Second}
				}
				return simetcd.Action{}
			})
			_, err := a.Orphan(w.timeout(300 * time.Millisecond))
			require.ErrorIs(w, err, context.DeadlineExceeded)
			w.pass(50 * time.Millisecond)
			return w.orphan(a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				a := w.detecting(n, "a", "10.0.0.1:7400")
				w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Second)
				w.heldUp("a", a)
				id := orphan(w, a)
				require.False(w, n.listens("10.0.0.1:7400"))
				w.pass(ttl / 2) // the candidate looks at the record once a second or so
				require.Contains(w, w.Leases(), id)
				next.isWaiting()
			})
		})
	}
}

func TestOrphanAfterCloseSaysThatTheSessionIsClosed(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.detecting(newFakeNet(), "a", "10.0.0.1:7400")
		w.pass(time.Second)
		require.NoError(w, a.Close(w.ctx))
		_, err := a.Orphan(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
	})
}

// The options of a successor may not fit the lease. Its address is not published then: it stops listening.
func TestASuccessorThatCannotBeginLeavesTheRecordAsItWas(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		term := w.campaign(NewElection(a, "e"), "A")
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		id := w.orphan(a)
		c := w.Client("a2")
		_, err := NewSession(w.ctx, c.Client, WithLease(id), WithLockDelay(ttl), renewOn(c),
			WithCrashDetection("10.0.0.1:7401"), sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Network = n }))
		require.ErrorIs(w, err, ErrInvalidOption)
		require.False(w, n.listens("10.0.0.1:7401"))
		w.pass(ttl / 2)
		next.isWaiting()
		resumed := w.campaign(NewElection(w.detecting(n, "a3", "10.0.0.1:7402", WithLease(id)), "e"), "A")
		require.Equal(w, term.Key(), resumed.Key())
	})
}
