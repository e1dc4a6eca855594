package etcdlock

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// switchover is an election with a leader that honours requests, whose work takes a while to stop, and an
// operator that asks.
type switchover struct {
	*world
	operator *Election
	session  *Session // of the leader
	leader   *running
	first    *Term
	causes   chan error     // with which the context of the work ended
	returned chan time.Time // when the work returned
}

// switchover starts the leader, as "of a". Its work returns a while after it was told to stop.
func (w *world) switchover(stopping time.Duration, opts ...RunOption) *switchover {
	s := &switchover{world: w, session: w.session("a"), causes: make(chan error, 10), returned: make(chan time.Time, 10)}
	s.leader = w.run(NewElection(s.session, "e"), func(ctx context.Context, _ *Term) error {
		<-ctx.Done()
		s.causes <- context.Cause(ctx)
		time.Sleep(stopping)
		s.returned <- time.Now()
		return nil
	}, append(opts, WithResignOnRequest())...)
	s.first = s.leader.term()
	s.operator = NewElection(w.session("operator"), "e")
	w.pass(100 * time.Millisecond)
	return s
}

// ask asks for a transfer, or for a resignation if the candidate is empty.
func (s *switchover) ask(candidate string) *pending[struct{}] {
	p := start(s.world, func(ctx context.Context) (struct{}, error) {
		if candidate == "" {
			return struct{}{}, s.operator.AskToResign(ctx, "maintenance")
		}
		return struct{}{}, s.operator.AskToTransfer(ctx, candidate, "maintenance")
	})
	s.pass(100 * time.Millisecond)
	return p
}

// announced are the announcements of leaders that honour requests.
func (w *world) announced() []*mvccpb.KeyValue { return w.Keys(wire.Side("e", "resigns/")) }

func TestALeaderThatIsAskedToResignStopsItsWorkFirst(t *testing.T) {
	for _, by := range []string{"AskToResign", "Ask"} {
		t.Run(by, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.switchover(3 * time.Second)
				b := w.run(NewElection(w.session("b"), "e"), nil)
				w.pass(time.Second)
				var p *pending[struct{}]
				if by == "Ask" {
					p = w.askLater(s.operator.session, "e", "maintenance")
				} else {
					p = s.ask("")
				}
				cause := <-s.causes
				require.ErrorIs(w, cause, ErrResignRequested)
				require.ErrorContains(w, cause, `by "operator"`)
				require.ErrorContains(w, cause, "maintenance")
				w.pass(2 * time.Second)
				p.isWaiting()
				require.NoError(w, s.first.Err())
				require.Empty(w, b.terms)
				next := b.term()
				require.LessOrEqual(w, time.Since(<-s.returned), 100*time.Millisecond, "as soon as the work has returned")
				p.get()
				require.ErrorIs(w, s.first.Err(), ErrReleased)
				w.pass(2 * time.Second)
				require.Equal(w, []string{"of b", "of a"}, w.values("e"), "it campaigns again")
				require.NoError(w, next.Err())
				require.Empty(w, w.announced())
				b.end()
				s.leader.term()
				s.leader.end()
				w.allGone()
			})
		})
	}
}

func TestALeaderThatIsAskedTransfersToTheCandidateThatIsNamed(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(3 * time.Second)
		b := w.run(NewElection(w.session("b"), "e", WithPriority(7)), nil)
		w.pass(time.Second)
		c := w.run(NewElection(w.session("c"), "e"), nil)
		w.pass(time.Second)
		first, second := s.ask("of c"), s.ask("of b")
		c.term()
		require.LessOrEqual(w, time.Since(<-s.returned), 200*time.Millisecond)
		first.get()
		second.fails(ErrNoCandidate)
		require.ErrorContains(w, second.err, `"of c" leads next`)
		require.Empty(w, b.terms)
		w.pass(time.Minute)
		c.end()
		b.term()
		b.end()
		s.leader.end()
		w.allGone()
	})
}

// The pause after a request lets a candidate of lower priority lead, though it is slow.
func TestALeaderOfTheHighestPriorityThatIsAskedToResignDoesNotLeadAgainAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.run(NewElection(w.session("a"), "e", WithPriority(7)), nil, WithResignOnRequest())
		a.term()
		b := w.run(NewElection(w.session("b"), "e"), nil)
		w.pass(time.Second)
		w.every("b", simetcd.Action{DelayRequest: 300 * time.Millisecond}, simetcd.Range, simetcd.Txn)
		require.NoError(w, NewElection(w.session("operator"), "e").AskToResign(w.ctx, ""))
		b.term()
		require.Empty(w, a.terms)
		w.Intercept(nil)
		b.end()
		a.term()
		a.end()
	})
}

// A request is to the term that it was posted for. The next term, of the same process and under the same key, does not
// end by it.
func TestARequestForAnEarlierTermIsIgnored(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		w.every("a", simetcd.Action{DelayReply: time.Hour}, simetcd.Watch) // it hears nothing for now
		w.CutWatches()
		s.ask("")
		w.Client("operator").Cut() // so that the request stays for a while
		require.Len(w, w.Keys(ask.Prefix("e")), 1)
		w.DeleteKey(s.first.Key())
		term := b.get()
		require.ErrorIs(w, <-s.causes, ErrLost)
		w.Intercept(nil)
		w.pass(time.Second)
		require.NoError(w, term.Resign(w.ctx))
		again := s.leader.term()
		require.Equal(w, s.first.Key(), again.Key())
		c := w.stands(NewElection(w.session("c"), "e"), "of c")
		w.pass(5 * time.Second)
		require.Len(w, w.Keys(ask.Prefix("e")), 1, "it stands")
		require.NoError(w, again.Err())
		require.Empty(w, s.causes)
		w.Client("operator").Heal()
		s.leader.end()
		c.get()
	})
}

func TestWhoAsksALeaderThatDoesNotHonourRequestsIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		operator := NewElection(w.session("operator"), "e")
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrNoLeader)
		require.ErrorIs(w, operator.AskToTransfer(w.ctx, "of b", ""), ErrNoLeader)
		require.ErrorIs(w, operator.AskToTransfer(w.ctx, "", ""), ErrInvalidArgument)
		require.ErrorIs(w, NewElection(w.session("operator"), "e/").AskToResign(w.ctx, ""), ErrInvalidName)

		run := w.run(NewElection(w.session("a"), "e"), nil)
		run.term()
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrNoCandidate)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		rev := w.Revision()
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrNotHonoured)
		require.ErrorIs(w, operator.AskToTransfer(w.ctx, "of b", ""), ErrNotHonoured)
		require.ErrorIs(w, operator.AskToTransfer(w.ctx, "of c", ""), ErrNoCandidate)
		err := operator.AskToTransfer(w.ctx, "of a", "")
		require.ErrorIs(w, err, ErrNoCandidate)
		require.ErrorContains(w, err, "the leader itself")
		require.Equal(w, rev, w.Revision(), "nothing was written")
		run.end()
		term := b.get()
		w.stands(NewElection(w.session("c"), "e"), "of c")
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrNotHonoured, "it leads without a Run")
		require.NoError(w, term.Resign(w.ctx))
		require.NoError(w, operator.session.Close(w.ctx))
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrSessionClosed)
	})
}

// The announcement of a Run is not taken for that of another term under the same lease.
func TestATermOfASessionWithARunThatHonoursRequestsDoesNotHonourThem(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		w.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{DropRequest: withdraws(c)} })
		s.leader.cancel()
		_, err := s.leader.result()
		require.ErrorIs(w, err, context.Canceled)
		require.NoError(w, b.get().Resign(w.ctx))
		plain := w.campaign(NewElection(s.session, "e"), "of a")
		require.Len(w, w.announced(), 1, "the announcement of the term before stands")
		w.stands(NewElection(w.session("c"), "e"), "of c")
		require.ErrorIs(w, s.operator.AskToResign(w.ctx, ""), ErrNotHonoured)
		w.Intercept(nil)
		require.NoError(w, plain.Resign(w.ctx))
	})
}

func TestASwitchoverWhileSomethingElseHappens(t *testing.T) {
	for name, c := range map[string]struct {
		does func(s *switchover)
		asks []error // what the asker is told
		run  error   // with which Run ends; nil if it goes on
	}{
		"its session is closed": {func(s *switchover) {
			require.NoError(s, s.leader.w.sessions[0].Close(s.ctx))
		}, []error{ErrNoCandidate}, ErrSessionClosed},
		"Run is ended": {func(s *switchover) { s.leader.cancel() }, nil, context.Canceled},
		"its key is deleted": {func(s *switchover) {
			s.DeleteKey(s.first.Key())
		}, []error{ErrNoCandidate}, nil},
		"it is cut off": {func(s *switchover) {
			s.Client("a").Cut()
			s.pass(2 * ttl)
			s.Client("a").Heal()
		}, []error{ErrNoCandidate}, nil},
		"etcd is away for a moment": {func(s *switchover) {
			s.Stop()
			s.pass(4 * time.Second)
			s.Start()
		}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.switchover(3 * time.Second)
				b := w.run(NewElection(w.session("b"), "e"), nil)
				w.pass(100 * time.Millisecond)
				cs := w.run(NewElection(w.session("c"), "e"), nil)
				w.pass(100 * time.Millisecond)
				p := s.ask("of c")
				require.ErrorIs(w, <-s.causes, ErrResignRequested)
				c.does(s)
				if c.asks == nil {
					p.get()
					cs.term()
					require.Empty(w, b.terms)
				} else {
					p.fails(c.asks...)
					b.term()
				}
				if c.run != nil {
					_, err := s.leader.result()
					require.ErrorIs(w, err, c.run)
				} else {
					s.leader.isWaiting()
				}
				w.pass(10 * time.Second)
			})
		})
	}
}

func TestTheAskerOfWorkThatDoesNotReturnIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(time.Minute)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		require.ErrorIs(w, s.operator.AskToTransfer(w.timeout(10*time.Second), "of b", ""), context.DeadlineExceeded)
		w.pass(time.Second)
		require.Empty(w, w.Keys(ask.Prefix("e")), "it is withdrawn")
		b.isWaiting()
		require.NoError(w, s.first.Err(), "no other process leads while the work runs")
		b.get()
		require.LessOrEqual(w, time.Since(<-s.returned), 100*time.Millisecond, "the leader has not forgotten")
		s.leader.end()
	})
	simulate(t, func(w *world) {
		s := w.switchover(time.Minute, WithStopTimeout(2*time.Second))
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		p := s.ask("of b")
		p.get()
		b.get()
		require.ErrorIs(w, s.first.Err(), ErrExpired, "its lease was left to its end")
		<-s.returned
		s.leader.end()
	})
}

func TestARunWithoutPermissionForRequestsLeadsAndHonoursNone(t *testing.T) {
	for _, kinds := range [][]simetcd.Kind{{simetcd.Put}, {simetcd.Range, simetcd.Watch}} {
		simulate(t, func(w *world) {
			a := w.session("a")
			w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, kinds...)
			run := w.run(NewElection(a, "e"), nil, WithResignOnRequest())
			term := run.term()
			w.stands(NewElection(w.session("b"), "e"), "of b")
			w.pass(time.Second)
			require.Empty(w, w.announced())
			require.ErrorIs(w, NewElection(w.session("operator"), "e").AskToResign(w.ctx, ""), ErrNotHonoured)
			require.NoError(w, term.Err())
			w.Intercept(nil)
			run.end()
		})
	}
}

// The process that continues a term by its lease file is not the one that has announced.
func TestTheAnnouncementOfAFormerProcessIsDeleted(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		w.run(NewElection(a, "e"), nil, WithResignOnRequest()).term()
		w.pass(100 * time.Millisecond)
		require.Len(w, w.announced(), 1)
		w.killed("a", a)
		again := w.session("again", file)
		run := w.run(NewElection(again, "e"), nil)
		term := run.term()
		w.pass(ttl + 5*time.Second)
		require.NoError(w, term.Err())
		require.Empty(w, w.announced())
		run.end()
		w.Client("a").Heal()
	})
}

// The next process hears of a request that stands.
func TestARequestIsHonouredByTheProcessThatContinuesTheTerm(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		first := w.run(NewElection(a, "e"), nil, WithResignOnRequest()).term()
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		w.Client("a").Cut()
		s := &switchover{world: w, operator: NewElection(w.session("operator"), "e")}
		p := s.ask("of b")
		w.killed("a", a)
		run := w.run(NewElection(w.session("again", file), "e"), nil, WithResignOnRequest())
		require.Equal(w, first.CreateRevision(), run.term().CreateRevision())
		p.get()
		b.get()
		run.end()
	})
}

func TestTheHooksTellOfARequest(t *testing.T) {
	simulate(t, func(w *world) {
		asked, ends := make(chan AskedInfo, 9), make(chan TermEndInfo, 9)
		a := w.session("a", WithTrace(&Trace{
			Asked:   func(_ context.Context, i AskedInfo) { asked <- i },
			TermEnd: func(_ context.Context, i TermEndInfo) { ends <- i },
		}))
		work := func(ctx context.Context, term *Term) error { // it listens too, beside Run
			r := <-term.Asked()
			require.Equal(w, "of b", r.Candidate)
			<-ctx.Done()
			return nil
		}
		run := w.run(NewElection(a, "e"), work, WithResignOnRequest())
		run.term()
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		require.NoError(w, NewElection(w.session("operator"), "e").AskToTransfer(w.ctx, "of b", "why not"))
		b.get()
		require.Equal(w, "of b", (<-asked).Request.Candidate)
		require.ErrorIs(w, (<-ends).Told, ErrResignRequested)
		run.end()
	})
}
