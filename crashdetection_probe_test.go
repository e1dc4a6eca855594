package etcdlock

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// countProbes counts the reads of the records that tell where processes listen.
func (w *world) countProbes() *atomic.Int64 {
	var reads atomic.Int64
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if r, ok := c.Req.(*pb.RangeRequest); ok && strings.HasPrefix(string(r.Key), wire.LivenessPrefix) {
			reads.Add(1)
		}
		return simetcd.Action{}
	})
	return &reads
}

// report E5
func TestACandidateBacksOffHoweverShortItsConnectionsAre(t *testing.T) {
	const address = "10.0.0.1:7400"
	for name, c := range map[string]struct {
		lasts       func(n int) time.Duration
		first, then int64 // most reads in the first minute and in each further one
	}{
		"closed at once":            {func(int) time.Duration { return 0 }, 24, 12},
		"closed after a second":     {func(int) time.Duration { return time.Second }, 24, 12},
		"closed when they last":     {func(int) time.Duration { return 10 * time.Second }, 12, 12},
		"in the most costly rhythm": {func(n int) time.Duration { return 10 * time.Second * time.Duration(1-min(1, n%10)) }, 60, 60},
		"in a rhythm like that":     {func(n int) time.Duration { return 10 * time.Second * time.Duration(1-min(1, n%9)) }, 60, 60},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				term := w.campaign(NewElection(w.detecting(n, "a", address), "e"), "A")
				n.lasts[address] = c.lasts
				reads := w.countProbes()
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Minute)
				require.LessOrEqual(w, reads.Load(), c.first)
				for range 10 {
					before := reads.Load()
					w.pass(time.Minute)
					require.LessOrEqual(w, reads.Load()-before, c.then)
					require.Greater(w, reads.Load(), before, "it goes on looking")
				}
				next.isWaiting()
				require.NoError(w, term.Err())

				died := time.Now()
				w.crash(n, "a", address)
				next.get()
				require.Less(w, next.at.Sub(died), 10*time.Second+time.Second)
			})
		})
	}
}

// report E5: a leader keeps no more connections than that.
func TestACandidateTooManyBacksOff(t *testing.T) {
	simulate(t, func(w *world) {
		const address = "10.0.0.1:7400"
		n := newFakeNet()
		w.campaign(NewElection(w.detecting(n, "a", address), "e"), "A")
		for range 256 {
			_, err := n.Dial(w.ctx, address)
			require.NoError(w, err)
			w.pass(time.Millisecond)
		}
		reads := w.countProbes()
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		next.isWaiting()
		require.LessOrEqual(w, reads.Load(), int64(24))
		died := time.Now()
		w.crash(n, "a", address)
		next.get()
		require.Less(w, next.at.Sub(died), 10*time.Second+time.Second)
	})
}

// report E6
func TestALostAnswerDoesNotKeepADeadLeader(t *testing.T) {
	for name, act := range map[string]struct {
		kind simetcd.Kind
		act  simetcd.Action
	}{
		"to the mark":                         {simetcd.Txn, simetcd.Action{DropReply: true}},
		"to the mark, told as an error":       {simetcd.Txn, simetcd.Action{ErrAfter: context.DeadlineExceeded}},
		"to the revocation":                   {simetcd.LeaseRevoke, simetcd.Action{DropReply: true}},
		"to the revocation, told as an error": {simetcd.LeaseRevoke, simetcd.Action{ErrAfter: context.DeadlineExceeded}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				core, logs := logged.New(zap.WarnLevel)
				w.campaign(NewElection(w.detecting(n, "a", "10.0.0.1:7400"), "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400", WithLogger(zap.New(core))), "e"), "B")
				w.pass(time.Minute)
				w.next("b", act.kind, act.act)
				died := time.Now()
				w.crash(n, "a", "10.0.0.1:7400")
				next.get()
				require.Less(w, next.at.Sub(died), 6*time.Second)
				w.pass(6 * time.Second)
				require.Len(w, logs.FilterMessageSnippet("the leader's process is dead: its lease was revoked").All(), 1)
				require.Len(w, logs.All(), 1)
			})
		})
	}
}

// report E6: if the writer of a mark has died, another candidate revokes the lease, or the successor that finds the mark.
func TestAnyProcessRevokesAMarkedLease(t *testing.T) {
	for _, by := range []string{"another candidate", "a successor", "a successor with a lease file"} {
		t.Run(by, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				file := t.TempDir() + "/lease"
				a := w.detecting(n, "a", "10.0.0.1:7400", WithLeaseFile(file))
				w.campaign(NewElection(a, "e"), "A")
				id := a.Lease()
				w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				if by == "another candidate" {
					w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400"), "e"), "C")
				}
				w.pass(time.Minute)
				var first sync.Once
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					if c.Kind == simetcd.LeaseRevoke {
						first.Do(w.Client(c.Client).Cut) // it dies between the mark and the revocation
					}
					return simetcd.Action{}
				})
				w.crash(n, "a", "10.0.0.1:7400")
				w.pass(time.Second)
				switch by {
				case "another candidate":
					require.NotContains(w, w.Leases(), id)
					return
				case "a successor":
					_, err := NewSession(w.ctx, w.Client("a2").Client, WithLease(id), renewOn(w.Client("a2")))
					require.ErrorIs(w, err, ErrLeaseNotFound)
				default:
					a.engine.LeaseFile().Close() // as the kernel does
					again := w.detecting(n, "a2", "10.0.0.1:7400", WithLeaseFile(file))
					require.NotEqual(w, id, again.Lease())
				}
				require.NotContains(w, w.Leases(), id)
				require.NotContains(w, w.leasesOf("e"), id)
			})
		})
	}
}

// leasesOf are those of the keys of a name.
func (w *world) leasesOf(name string) (ids []clientv3.LeaseID) {
	for _, kv := range w.Keys(name + "/") {
		ids = append(ids, clientv3.LeaseID(kv.Lease))
	}
	return ids
}

// report E15
func TestTheRevocationOfADeadLeadersLeaseIsLogged(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		id := a.Lease()
		core, logs := logged.New(zap.WarnLevel)
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400", WithLogger(zap.New(core))), "e"), "B")
		w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400", WithLogger(zap.New(core))), "e"), "C")
		w.pass(time.Minute)
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.LeaseRevoke {
				return simetcd.Action{DelayReply: time.Second} // the watch is faster
			}
			return simetcd.Action{}
		})
		w.crash(n, "a", "10.0.0.1:7400")
		next.get()
		w.pass(time.Minute)
		require.Len(w, logs.All(), 1, "once, by the one that did it")
		told := logs.All()[0]
		require.Equal(w, "the leader's process is dead: its lease was revoked", told.Message)
		for field, want := range map[string]any{"name": "e", "leader": "A", "lease": wire.Hex(id), "address": "10.0.0.1:7400"} {
			require.Equal(w, want, told.ContextMap()[field], field)
		}
	})
}
