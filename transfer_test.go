package etcdlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// stands starts to campaign, and waits until it is in line.
func (w *world) stands(e *Election, value string) *pending[*Term] {
	p := start(w, func(ctx context.Context) (*Term, error) { return e.Campaign(ctx, value) })
	w.pass(100 * time.Millisecond)
	return p
}

func TestALeaderHandsOverToACandidateByName(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c, d := w.session("a"), w.session("b"), w.session("c"), w.session("d")
		term := w.stands(NewElection(a, "e"), "a").get()
		pb, pc, pd := w.stands(NewElection(b, "e"), "b"), w.stands(NewElection(c, "e"), "c"), w.stands(NewElection(d, "e"), "d")

		require.ErrorIs(w, term.Transfer(w.ctx, "nobody"), ErrNoCandidate)
		require.ErrorIs(w, term.Transfer(w.ctx, "a"), ErrNoCandidate, "the leader is no candidate")
		require.NoError(w, term.Err(), "the term goes on")

		require.NoError(w, term.Transfer(w.ctx, "d"))
		require.ErrorIs(w, term.Err(), ErrReleased)
		next := pd.get()
		require.Greater(w, next.Token(), term.Token())
		pb.isWaiting()
		pc.isWaiting()
		require.ErrorIs(w, term.Transfer(w.ctx, "b"), ErrReleased)

		// Those who stepped behind keep their order, and nobody is preferred any more.
		last := w.stands(NewElection(a, "e"), "a again")
		require.NoError(w, next.Resign(w.ctx))
		tb := pb.get()
		pc.isWaiting()
		require.NoError(w, tb.Resign(w.ctx))
		require.NoError(w, pc.get().Resign(w.ctx))
		require.NoError(w, last.get().Resign(w.ctx))
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// What marks the next one goes with it, whether it leads, gives up or dies.
func TestAMarkOfTheNextDoesNotOutliveIt(t *testing.T) {
	for _, end := range []string{"gives up", "closes", "dies"} {
		t.Run(end, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b, c := w.session("a"), w.session("b"), w.session("c")
				term := w.stands(NewElection(a, "e"), "a").get()
				pb, pc := w.stands(NewElection(b, "e"), "b"), w.stands(NewElection(c, "e"), "c")
				w.Client("c").Cut()
				require.NoError(w, term.Transfer(w.ctx, "c"))
				switch end {
				case "gives up":
					pc.cancel()
					pc.fails(context.Canceled)
					w.Client("c").Heal()
				case "closes":
					w.Client("c").Heal()
					require.NoError(w, c.Close(w.ctx))
				}
				tb := pb.get()
				require.NoError(w, tb.Resign(w.ctx))
				w.Client("c").Heal()
				w.pass(time.Minute)
				w.empty("e")
				pc.cancel()
				w.allGone()
			})
		})
	}
}

// Never is an older key passed, and one of another library knows nothing of marks.
func TestACandidateOfAnotherLibraryLeadsWhenItIsItsTurn(t *testing.T) {
	simulate(t, func(w *world) {
		a, c := w.session("a"), w.session("c")
		term := w.stands(NewElection(a, "e"), "a").get()
		lease := w.GrantLease(time.Hour)
		foreign, err := concurrency.NewSession(w.Client("f").Client, concurrency.WithLease(lease))
		require.NoError(w, err)
		fe := concurrency.NewElection(foreign, "e")
		pf := start(w, func(ctx context.Context) (int, error) { return 0, fe.Campaign(ctx, "f") })
		w.pass(100 * time.Millisecond)
		pc := w.stands(NewElection(c, "e"), "c")
		require.NoError(w, term.Transfer(w.ctx, "c"))
		pf.get()
		w.pass(time.Second)
		pc.isWaiting()
		require.NoError(w, fe.Resign(w.ctx))
		require.NoError(w, pc.get().Resign(w.ctx))
		w.pass(time.Second)
		w.empty("e")
		require.NoError(w, foreign.Close())
		synctest.Wait()
	})
}

func TestOfThoseWhoWaitTheHighestPriorityLeadsNext(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		low := w.stands(NewElection(w.session("b"), "e"), "low")
		mid := w.stands(NewElection(w.session("c"), "e", WithPriority(1)), "mid")
		high := w.stands(NewElection(w.session("d"), "e", WithPriority(5)), "high")
		also := w.stands(NewElection(w.session("f"), "e", WithPriority(5)), "also high")
		under := w.stands(NewElection(w.session("g"), "e", WithPriority(-1)), "under")
		require.NoError(w, term.Resign(w.ctx))
		last := int64(0)
		for _, next := range []*pending[*Term]{high, also, mid, low, under} {
			led := next.get()
			require.Greater(w, led.Token(), last)
			last = led.Token()
			w.pass(time.Second)
			require.NoError(w, led.Resign(w.ctx))
		}
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// Priorities do not disturb a leader, and a transfer counts for more than them.
func TestAPriorityDoesNotDisturbALeader(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		high := w.stands(NewElection(w.session("b"), "e", WithPriority(9)), "high")
		low := w.stands(NewElection(w.session("c"), "e"), "low")
		w.pass(time.Minute)
		require.NoError(w, term.Err())
		require.NoError(w, term.Transfer(w.ctx, "low"))
		led := low.get()
		high.isWaiting()
		require.NoError(w, led.Resign(w.ctx))
		require.NoError(w, high.get().Resign(w.ctx))
		w.allGone()
	})
}
