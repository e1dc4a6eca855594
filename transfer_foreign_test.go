package etcdlock

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/protobuf/proto"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// foreign is a candidate on etcd's own package, with a session that lives for an hour.
type foreign struct {
	w        *world
	session  *concurrency.Session
	election *concurrency.Election
	leads    *pending[int]
}

func (w *world) foreign(value string) *foreign {
	w.Helper()
	s, err := concurrency.NewSession(w.Client(value).Client, concurrency.WithLease(w.GrantLease(time.Hour)))
	require.NoError(w, err)
	f := &foreign{w: w, session: s, election: concurrency.NewElection(s, "e")}
	f.stands(value)
	return f
}

func (f *foreign) stands(value string) {
	f.leads = start(f.w, func(ctx context.Context) (int, error) { return 0, f.election.Campaign(ctx, value) })
	f.w.pass(100 * time.Millisecond)
}

// leader returns the leader that etcd's own package reports, empty for none.
func (f *foreign) leader() string {
	f.w.Helper()
	resp, err := f.election.Leader(f.w.ctx)
	if err != nil {
		require.ErrorIs(f.w, err, concurrency.ErrElectionNoLeader)
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func (f *foreign) close() {
	require.NoError(f.w, f.session.Close())
	synctest.Wait()
}

// report E3: nothing of a Transfer is in the way of candidates on etcd's own package, nor seen by them, while the
// session of the one that led by it lives on.
func TestWhatATransferWritesConcernsNoForeignCandidate(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "a")
		target := w.foreign("target")
		require.NoError(w, term.Transfer(w.ctx, "target"))
		target.leads.get()
		require.Equal(w, "target", target.leader())
		later := w.foreign("later")
		w.pass(time.Second)
		later.leads.isWaiting()
		resigned := time.Now()
		require.NoError(w, target.election.Resign(w.ctx))
		later.leads.get()
		require.Less(w, time.Since(resigned), time.Second)
		require.Equal(w, "later", target.leader())
		require.NoError(w, later.election.Resign(w.ctx))
		require.Empty(w, target.leader(), "nobody, and no mark")

		target.stands("target again") // of the lease that was marked
		target.leads.get()
		require.NoError(w, target.election.Resign(w.ctx))
		w.empty("e")
		target.close()
		later.close()
		w.allGone()
	})
}

// report E3: nor of candidates of this package: they step behind the one that is named, and not again when it has led.
func TestAForeignCandidateThatIsNamedLeadsOnce(t *testing.T) {
	for name, crowd := range map[string]int{"few": 2, "crowd": 12} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.campaign(NewElection(w.session("a"), "e"), "a")
				var ahead []*pending[*Term]
				for i := range crowd {
					ahead = append(ahead, w.stands(NewElection(w.session(fmt.Sprint("c", i)), "e"), fmt.Sprint(i)))
				}
				target := w.foreign("target")
				behind := w.foreign("behind")
				require.NoError(w, term.Transfer(w.ctx, "target"))
				target.leads.get()
				require.Equal(w, "target", target.leader())
				w.pass(time.Second)
				require.Len(w, w.marks("e"), 1)
				for _, p := range ahead {
					p.isWaiting()
				}
				require.NoError(w, target.election.Resign(w.ctx))
				behind.leads.get() // by age: the candidates that were ahead stepped behind it
				target.stands("target again")
				require.NoError(w, behind.election.Resign(w.ctx))
				last := int64(0)
				for _, p := range ahead {
					led := p.get()
					require.Greater(w, led.Token(), last)
					last = led.Token()
					require.Empty(w, w.marks("e"), "deleted by the clients that found it")
					require.NoError(w, led.Resign(w.ctx))
				}
				target.leads.get()
				require.NoError(w, target.election.Resign(w.ctx))
				w.empty("e")
				target.close()
				behind.close()
				w.allGone()
			})
		})
	}
}

// report E3: a foreign leader may proclaim, and its candidate's value may change, at any time around the Transfer.
func TestATransferMeetsAKeyThatIsWrittenAgain(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "a")
		next := w.stands(NewElection(w.session("next"), "e"), "next")
		target := w.foreign("target")
		key := wire.Key("e", target.session.Lease())
		done := false
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn && !done {
				done = true
				go w.PutKey(key, "changed", target.session.Lease()) // between the look for it and the Transfer
				return simetcd.Action{DelayRequest: 100 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		require.NoError(w, term.Transfer(w.ctx, "target"))
		target.leads.get()
		require.Equal(w, "changed", target.leader(), "the Transfer did not undo it")
		next.isWaiting()
		require.NoError(w, target.election.Proclaim(w.ctx, "proclaimed"))
		require.Equal(w, "proclaimed", target.leader())
		require.NoError(w, target.election.Resign(w.ctx))
		require.NoError(w, next.get().Resign(w.ctx))
		target.close()
		w.allGone()
	})
}

// report E3: no other candidate finds the mark of a leader that has gone, whether it proclaimed or not.
func TestAMarkGoesWithItsLeader(t *testing.T) {
	for _, proclaims := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(proclaims), func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.campaign(NewElection(w.session("a"), "e"), "a")
				p := w.stands(NewElection(w.session("b"), "e"), "b")
				require.NoError(w, term.Transfer(w.ctx, "b"))
				led := p.get()
				for i := range proclaims {
					require.NoError(w, led.Proclaim(w.ctx, fmt.Sprint(i)))
				}
				require.Len(w, w.marks("e"), 1)
				require.NoError(w, led.Resign(w.ctx))
				w.pass(time.Second)
				require.Empty(w, w.Keys("e"))
				w.allGone()
			})
		})
	}
}

// report E3: candidates that may not touch what stands beside the queue stand, lead and resign; they heed no mark.
func TestACandidateWithoutPermissionBesideTheQueueGoesOn(t *testing.T) {
	for name, crowd := range map[string]int{"few": 0, "crowd": 10} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.campaign(NewElection(w.session("a"), "e"), "a")
				from, _ := wire.SuccessorKeys("e")
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					req, err := proto.Marshal(c.Req)
					if c.Client == "b" && err == nil && bytes.Contains(req, []byte(from)) {
						return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
					}
					return simetcd.Action{}
				})
				b := w.stands(NewElection(w.session("b"), "e"), "b")
				for i := range crowd {
					w.stands(NewElection(w.session(fmt.Sprint("c", i)), "e"), fmt.Sprint(i)).cancel()
				}
				c := w.stands(NewElection(w.session("c"), "e"), "c")
				require.NoError(w, term.Transfer(w.ctx, "c"))
				led := b.get()
				c.isWaiting()
				all, err := NewElection(w.sessions[1], "e").Candidates(w.ctx)
				require.NoError(w, err)
				require.Equal(w, "b", all[0].Value)
				require.ErrorIs(w, led.Transfer(w.ctx, "c"), rpctypes.ErrPermissionDenied)
				require.NoError(w, c.get().Resign(w.ctx))
				w.pass(time.Minute)
				w.empty("e")
			})
		})
	}
}
