package etcdlock

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// withdraws reports whether a request deletes an announcement.
func withdraws(c simetcd.Call) bool {
	txn, ok := c.Req.(*pb.TxnRequest)
	return ok && len(txn.Success) == 1 && strings.Contains(string(txn.Success[0].GetRequestDeleteRange().GetKey()), wire.Side("e", "resigns/"))
}

// A request was written a minute after the call had returned, when etcd answered again, and the leader handed over.
func TestNoRequestIsWrittenAfterTheAskerHasGivenUp(t *testing.T) {
	for _, act := range []simetcd.Action{{DropRequest: true}, {DelayRequest: 5 * time.Second}} {
		simulate(t, func(w *world) {
			s := w.switchover(time.Minute)
			w.stands(NewElection(w.session("b"), "e"), "of b")
			w.every("operator", act, simetcd.Put)
			require.ErrorIs(w, s.operator.AskToTransfer(w.timeout(2*time.Second), "of b", ""), context.DeadlineExceeded)
			w.Intercept(nil)
			rev := w.Revision()
			w.pass(time.Minute)
			if act.DropRequest {
				require.Equal(w, rev, w.Revision(), "nothing was written")
				require.Empty(w, s.causes)
			}
			require.Empty(w, w.Keys(ask.Prefix("e")), "what came late is swept")
			s.leader.end()
		})
	}
}

// Text of any length, with escape sequences, reached the cause, the log and the terminal of etcdlock elect.
func TestTheTextOfARequestIsQuoted(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		e := s.first.of.Entry()
		text := `x\u001b[2J\n` + strings.Repeat("A", 100_000)
		w.PutKey(ask.Prefix("e")+"1.1", fmt.Sprintf(`{"owner":%q,"host":"%s","reason":"%s","of":[{"key":%q,"rev":%d}]}`,
			"ops", text, text, e.Key, e.CreateRevision), 0)
		cause := (<-s.causes).Error()
		require.NotContains(w, cause, "\x1b")
		require.NotContains(w, cause, "\n")
		require.Less(w, len(cause), 1000)
		w.DeleteKey(ask.Prefix("e") + "1.1")
		b.get()
		s.leader.end()
	})
}

// The next process numbers its announcements from 1 too. The first try to delete that of the former process comes late,
// and the second one was answered.
func TestALateDeletionSparesTheAnnouncementOfTheNextProcess(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		former := w.run(NewElection(a, "e"), nil, WithResignOnRequest())
		former.term()
		w.pass(100 * time.Millisecond)
		var late atomic.Bool
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if withdraws(c) && late.CompareAndSwap(false, true) {
				return simetcd.Action{DelayRequest: 4 * time.Second}
			}
			return simetcd.Action{}
		})
		former.end()
		w.pass(1500 * time.Millisecond)
		require.Empty(w, w.announced())
		_, err := a.Orphan(w.ctx)
		require.NoError(w, err)
		run := w.run(NewElection(w.session("again", file), "e"), nil, WithResignOnRequest())
		run.term()
		w.pass(500 * time.Millisecond)
		require.Len(w, w.announced(), 1)
		announced := w.announced()[0]
		w.pass(5 * time.Second)
		require.Len(w, w.announced(), 1)
		require.Equal(w, announced.ModRevision, w.announced()[0].ModRevision, "it was not written again")
		run.end()
	})
}

// The announcement stays with its term, so that a planned restart needs no etcd for it. A session that could not be
// orphaned announced nothing any more, and its leader honoured no request for the rest of the term.
func TestAnOrphanedSessionLeavesItsAnnouncement(t *testing.T) {
	t.Run("without etcd", func(t *testing.T) {
		simulate(t, func(w *world) {
			core, logs := logged.New(zap.WarnLevel)
			a := w.session("a", WithLeaseFile(filepath.Join(t.TempDir(), "lease")), WithLogger(zap.New(core)))
			run := w.run(NewElection(a, "e"), nil, WithResignOnRequest())
			run.term()
			w.pass(time.Second)
			w.Client("a").Cut()
			_, err := a.Orphan(w.timeout(3 * time.Second))
			require.NoError(w, err)
			_, err = run.result()
			require.ErrorIs(w, err, ErrOrphaned)
			require.Empty(w, logs.All())
			w.Client("a").Heal()
		})
	})
	t.Run("after an Orphan that failed", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			l := w.lock(NewMutex(s.session, "m"))
			w.every("a", simetcd.Action{DropRequest: true}, simetcd.Txn)
			go func() { _ = l.Unlock(w.ctx) }()
			w.pass(100 * time.Millisecond)
			_, err := s.session.Orphan(w.timeout(2 * time.Second))
			require.ErrorIs(w, err, context.DeadlineExceeded)
			w.Intercept(nil)
			require.NoError(w, s.first.Err(), "the term continues")
			require.NoError(w, s.operator.AskToTransfer(w.timeout(20*time.Second), "of b", ""))
			b.get()
			s.leader.end()
		})
	})
}

// A waiting candidate becomes the leader while etcd has no space: that takes no write.
func TestALeaderAnnouncesAgainAfterARefusalThatPasses(t *testing.T) {
	simulate(t, func(w *world) {
		first := w.campaign(NewElection(w.session("x"), "e"), "x")
		run := w.run(NewElection(w.session("a"), "e"), nil, WithResignOnRequest())
		w.pass(time.Second)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCNoSpace}, simetcd.Put)
		require.NoError(w, first.Resign(w.ctx))
		run.term()
		w.pass(time.Minute)
		require.Empty(w, w.announced())
		w.Intercept(nil)
		w.pass(time.Minute)
		require.NoError(w, NewElection(w.session("operator"), "e").AskToTransfer(w.timeout(20*time.Second), "of b", ""))
		b.get()
		run.end()
	})
}

func TestARequestThatIsNotHonouredEnds(t *testing.T) {
	t.Run("the candidate restarts while the leader looks", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			session := w.session("c")
			c := w.stands(NewElection(session, "e"), "of c")
			w.every("a", simetcd.Action{DelayRequest: 200 * time.Millisecond}, simetcd.TxnReadOnly, simetcd.Range)
			p := start(w, func(ctx context.Context) (struct{}, error) {
				return struct{}{}, s.operator.AskToTransfer(ctx, "of c", "maintenance")
			})
			for len(w.Keys(ask.Prefix("e"))) == 0 {
				w.pass(time.Millisecond)
			}
			w.Client("operator").Cut()
			c.cancel()
			w.pass(500 * time.Millisecond)
			w.stands(NewElection(session, "e"), "of c")
			w.Client("operator").Heal()
			w.Client("operator").Reset()
			p.fails(ErrNoCandidate)
			require.NoError(w, s.first.Err())
			s.leader.cancel()
		})
	})
	t.Run("the next process with the lease file honours none", func(t *testing.T) {
		simulate(t, func(w *world) {
			file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
			a := w.session("a", file)
			w.run(NewElection(a, "e"), nil, WithResignOnRequest()).term()
			w.stands(NewElection(w.session("b"), "e"), "of b")
			w.Client("a").Cut()
			s := &switchover{world: w, operator: NewElection(w.session("operator"), "e")}
			p := s.ask("of b")
			w.killed("a", a)
			run := w.run(NewElection(w.session("again", file), "e"), nil)
			run.term()
			p.fails(ErrNotHonoured)
			run.end()
			w.Client("a").Heal()
		})
	})
}

func TestTheAskerOfATransferIsToldWhichCandidateFollows(t *testing.T) {
	t.Run("one of another library is ahead", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			f := w.foreign("foreign")
			c := w.stands(NewElection(w.session("c"), "e"), "of c")
			err := s.operator.AskToTransfer(w.ctx, "of c", "")
			require.ErrorIs(w, err, ErrNoCandidate)
			require.ErrorContains(w, err, `"foreign" is ahead of the candidate`)
			f.leads.get()
			require.NoError(w, f.election.Resign(w.ctx))
			c.get()
			f.close()
			s.leader.cancel()
		})
	})
	t.Run("it led before the asker looked", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			c := w.stands(NewElection(w.session("c"), "e"), "of c")
			w.stands(NewElection(w.session("d"), "e"), "of d")
			w.every("operator", simetcd.Action{DelayRequest: 200 * time.Millisecond}, simetcd.TxnReadOnly)
			p := s.ask("of c")
			require.NoError(w, c.get().Resign(w.ctx))
			p.get()
			s.leader.cancel()
		})
	})
}

// One read that was refused made the leader forget the request, and the asker waited without end.
func TestARequestIsNotForgottenWhenEtcdRefusesARead(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCUserNotFound}, simetcd.TxnReadOnly, simetcd.Range)
		p := s.ask("of b")
		w.pass(time.Second)
		p.isWaiting()
		w.Intercept(nil)
		p.get()
		b.get()
		s.leader.end()
	})
}

// The first tries of the announcement may not be answered.
func TestALeaderThatAnnouncesLateHonoursRequests(t *testing.T) {
	simulate(t, func(w *world) {
		w.every("a", simetcd.Action{DropRequest: true}, simetcd.Put)
		run := w.run(NewElection(w.session("a"), "e"), nil, WithResignOnRequest())
		run.term()
		time.AfterFunc(3*time.Second, func() { w.Intercept(nil) })
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		require.NoError(w, NewElection(w.session("operator"), "e").AskToTransfer(w.timeout(time.Minute), "of b", ""))
		b.get()
		run.end()
	})
}

// The cause that Run itself had given ended Run.
func TestWorkThatTransfersByItselfWhenAskedDoesNotEndRun(t *testing.T) {
	for name, result := range map[string]func(context.Context) error{
		"nil": func(context.Context) error { return nil }, "the cause": context.Cause, "the error of the context": context.Context.Err,
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				run := w.run(NewElection(w.session("a"), "e", WithPriority(1)), func(ctx context.Context, term *Term) error {
					r := <-term.Asked()
					<-ctx.Done()
					if err := term.Transfer(context.WithoutCancel(ctx), r.Candidate); err != nil {
						return err
					}
					return result(ctx)
				}, WithResignOnRequest())
				run.term()
				b := w.stands(NewElection(w.session("b"), "e"), "of b")
				require.NoError(w, NewElection(w.session("operator"), "e").AskToTransfer(w.ctx, "of b", ""))
				b.get()
				w.pass(500 * time.Millisecond)
				require.Equal(w, []string{"of b"}, w.values("e"), "it pauses as after each request")
				w.pass(5 * time.Second)
				run.isWaiting()
				require.Equal(w, []string{"of b", "of a"}, w.values("e"))
				run.cancel()
			})
		})
	}
}

// Work of Run that listens too, as etcdlock elect does, doubled the counts of a trace.
func TestTheHookAskedIsCalledOnceForARequest(t *testing.T) {
	for _, honours := range []bool{true, false} {
		simulate(t, func(w *world) {
			var calls atomic.Int64
			a := w.session("a", WithTrace(&Trace{Asked: func(context.Context, AskedInfo) { calls.Add(1) }}))
			heard := make(chan ReleaseRequest, 1)
			var opts []RunOption
			if honours {
				opts = append(opts, WithResignOnRequest())
			}
			run := w.run(NewElection(a, "e"), func(ctx context.Context, term *Term) error {
				heard <- <-term.Asked()
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				_ = term.Resign(context.WithoutCancel(ctx))
				return nil
			}, opts...)
			run.term()
			w.stands(NewElection(w.session("b"), "e"), "of b")
			require.NoError(w, w.session("operator").Ask(w.ctx, "e", "maintenance"))
			require.Equal(w, "maintenance", (<-heard).Reason)
			w.pass(time.Second)
			require.EqualValues(w, 1, calls.Load())
			run.cancel()
		})
	}
}

// An operator that deleted all keys beside a queue made its leader deaf for the rest of the term.
func TestAnAnnouncementThatIsDeletedIsWrittenAgain(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		for range 3 {
			w.DeleteKey(string(w.announced()[0].Key))
			w.pass(2 * time.Minute)
			require.Len(w, w.announced(), 1)
		}
		require.NoError(w, s.first.Err())
		require.NoError(w, s.operator.AskToTransfer(w.ctx, "of b", ""))
		b.get()
		s.leader.end()
		w.allGone()
	})
}
