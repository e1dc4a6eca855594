package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/pause"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestACandidateThatIsGoneGetsNoTransfer(t *testing.T) {
	t.Run("before the leader hears of it", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(time.Second)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			w.Client("a").Cut()
			p := s.ask("of b")
			p.isWaiting()
			w.Client("operator").Cut() // the request stands
			b.cancel()
			w.pass(time.Second)
			w.Client("a").Heal()
			w.CutWatches() // it reads what it has missed
			w.pass(3 * time.Second)
			require.Len(w, w.Keys(ask.Prefix("e")), 1)
			require.NoError(w, s.first.Err(), "the work runs on")
			require.Empty(w, s.causes)
			w.Client("operator").Heal()
			p.fails(ErrNoCandidate)
			w.pass(time.Second)
			require.Empty(w, w.Keys(ask.Prefix("e")))
			s.leader.end()
		})
	})
	t.Run("while the work stops", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(3 * time.Second)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			c := w.stands(NewElection(w.session("c"), "e"), "of c")
			p := s.ask("of c")
			require.ErrorIs(w, <-s.causes, ErrResignRequested)
			c.cancel()
			p.fails(ErrNoCandidate)
			w.pass(time.Second)
			require.NoError(w, s.first.Err(), "not before the work has returned")
			b.get()
			require.LessOrEqual(w, time.Since(<-s.returned), 100*time.Millisecond)
			s.leader.end()
		})
	})
	t.Run("in the instant of the transfer", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(time.Second)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			c := w.stands(NewElection(w.session("c"), "e"), "of c")
			w.Intercept(func(call simetcd.Call) simetcd.Action {
				if call.Client == "a" && call.Kind == simetcd.Txn {
					return simetcd.Action{DelayRequest: 200 * time.Millisecond}
				}
				return simetcd.Action{}
			})
			p := s.ask("of c")
			<-s.returned
			c.cancel()
			p.fails(ErrNoCandidate)
			b.get()
			s.leader.end()
		})
	})
}

// Run waits for its resignation then, as after any other term.
func TestALeaderWhoseCandidateHasLeftResigns(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(3 * time.Second)
		b := w.stands(NewElection(w.session("b"), "e"), "of b")
		c := w.stands(NewElection(w.session("c"), "e"), "of c")
		p := s.ask("of c")
		require.ErrorIs(w, <-s.causes, ErrResignRequested)
		c.cancel()
		p.fails(ErrNoCandidate)
		w.every("a", simetcd.Action{DelayRequest: time.Second}, simetcd.Txn)
		s.leader.end()
		require.Nil(w, w.Get(s.first.Key()), "Run has returned")
		b.get()
	})
}

// A process that was killed and started again has two entries with one value, and the older one is dead. The leadership
// went to the dead one, and then to another candidate.
func TestATransferToARestartedCandidateGoesToTheEntryThatLives(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.switchover(0)
		w.stands(NewElection(w.session("c"), "e"), "of c")
		other := w.run(NewElection(w.session("other"), "e", WithPriority(7)), nil)
		w.pass(time.Minute)
		w.Client("c").Cut()
		w.pass(500 * time.Millisecond)
		alive := w.stands(NewElection(w.session("again"), "e"), "of c")
		err := s.operator.AskToTransfer(w.ctx, "of c", "")
		require.ErrorIs(w, err, ErrNoCandidate, "the dead entry is ahead until its lease expires")
		require.ErrorContains(w, err, "ahead of the candidate")
		alive.get()
		require.Empty(w, other.terms)
		s.leader.cancel()
		other.cancel()
		w.Client("c").Heal()
	})
}

// A takeover refuses such a candidate too. The work ended, and no process led for seconds.
func TestNoLeaderResignsForACandidateThatIsCutOff(t *testing.T) {
	for _, to := range []string{"of c", ""} {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			w.stands(NewElection(w.session("c"), "e"), "of c")
			w.pass(time.Minute)
			w.Client("c").Cut()
			w.pass(6 * time.Second)
			s.ask(to).fails(ErrNoCandidate)
			require.NoError(w, s.first.Err())
			require.Empty(w, s.causes)
			s.leader.end()
			w.Client("c").Heal()
		})
	}
}

// The only candidate left before the leader heard of the request. The work ended, and no process led for a second.
func TestNoLeaderResignsForNobody(t *testing.T) {
	t.Run("a candidate that has left", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			w.Client("a").Cut()
			p := s.ask("")
			w.Client("operator").Cut() // the request stays
			b.cancel()
			w.pass(time.Second)
			w.Client("a").Heal()
			w.CutWatches()
			w.pass(3 * time.Second)
			require.Len(w, w.Keys(ask.Prefix("e")), 1)
			require.Empty(w, s.causes)
			require.NoError(w, s.first.Err())
			w.Client("operator").Heal()
			p.fails(ErrNoCandidate)
			s.leader.end()
		})
	})
	t.Run("Ask waits for a candidate", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			p := w.askLater(s.operator.session, "e", "maintenance")
			w.pass(time.Minute)
			p.isWaiting()
			require.Empty(w, s.causes)
			b := w.stands(NewElection(w.session("b"), "e"), "of b")
			came := time.Now()
			p.get()
			require.LessOrEqual(w, time.Since(came), 31*time.Second)
			b.get()
			s.leader.end()
		})
	})
	t.Run("a pause", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.switchover(0)
			w.stands(NewElection(w.session("b"), "e", WithPriority(1)), "of b")
			w.Client("a").Cut()
			p := s.ask("")
			w.Client("operator").Cut()
			_, err := pause.Begin(w.ctx, w.Client("x").Client, "e", time.Hour)
			require.NoError(w, err)
			w.Client("a").Heal()
			w.CutWatches()
			w.pass(3 * time.Second)
			require.Empty(w, s.causes)
			w.Client("operator").Heal()
			p.fails(ErrNoCandidate)
			require.NoError(w, pause.End(w.ctx, w.Client("x").Client, "e"))
			s.leader.end()
		})
	})
}
