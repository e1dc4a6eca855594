package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// takingOver is an election that has all of it.
func (w *world) takingOver(client string, priority int, after time.Duration) *Election {
	return NewElection(w.session(client), "e", WithPriority(priority), WithTakeover(after))
}

// The leader's work ends before the challenger leads. Candidates that were ahead of the challenger are behind it now, and
// the old leader leads again when the challenger goes.
func TestAHigherCandidateTakesOverWhenTheWorkHasReturned(t *testing.T) {
	simulate(t, func(w *world) {
		causes := make(chan error, 10)
		var returned time.Time
		low := w.run(w.takingOver("low", 1, 0), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			returned = time.Now()
			causes <- context.Cause(ctx)
			return errWork // ends nothing: it was told to stop
		})
		first := low.term()
		other := w.stands(w.takingOver("other", 0, 0), "other")
		w.pass(time.Minute)
		require.NoError(w, first.Err())
		high := w.run(w.takingOver("high", 2, 0), nil)
		led := high.term()
		require.Less(w, time.Since(returned), 100*time.Millisecond, "not before, and at once")
		cause := <-causes
		require.ErrorIs(w, cause, ErrPreempted)
		require.ErrorContains(w, cause, "of high")
		require.ErrorIs(w, first.Err(), ErrReleased)
		require.Greater(w, led.Token(), first.Token())
		other.isWaiting()
		w.pass(time.Minute)
		require.NoError(w, led.Err())
		high.end()
		require.Greater(w, low.term().Token(), led.Token(), "it campaigned again")
		low.end()
		require.NoError(w, other.get().Resign(w.ctx))
		w.pass(time.Second)
		w.empty("e")
		w.allGone()
	})
}

func TestNobodyMakesWayWhoNeedNot(t *testing.T) {
	for name, c := range map[string]struct{ leader, candidate []ElectionOption }{
		"for an equal":                    {[]ElectionOption{WithPriority(3), WithTakeover(0)}, []ElectionOption{WithPriority(3), WithTakeover(0)}},
		"for a lower one":                 {[]ElectionOption{WithTakeover(0)}, []ElectionOption{WithPriority(-1), WithTakeover(0)}},
		"when the leader does not":        {[]ElectionOption{WithPriority(1)}, []ElectionOption{WithPriority(2), WithTakeover(0)}},
		"when the candidate does not ask": {[]ElectionOption{WithPriority(1), WithTakeover(0)}, []ElectionOption{WithPriority(2)}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				run := w.run(NewElection(w.session("a"), "e", c.leader...), nil)
				term := run.term()
				next := w.stands(NewElection(w.session("b"), "e", c.candidate...), "b")
				w.pass(2 * time.Minute)
				require.NoError(w, term.Err())
				run.end()
				require.NoError(w, next.get().Resign(w.ctx))
				w.allGone()
			})
		})
	}
}

// A candidate that is unhealthy, that comes and goes, or that died, preempts no leader.
func TestACandidateThatCannotLeadDisturbsNobody(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(w.takingOver("low", 0, 5*time.Second), nil)
		term := run.term()
		sick := w.run(w.takingOver("sick", 1, 0), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error { return errWork }}))
		w.pass(time.Minute)
		sick.end()
		require.NoError(w, term.Err())

		e := w.takingOver("restless", 2, 0)
		for range 10 {
			p := w.stands(e, "restless")
			w.pass(4 * time.Second)
			p.cancel()
			p.fails(context.Canceled)
			w.pass(time.Second)
		}
		require.NoError(w, term.Err())

		dead := w.stands(w.takingOver("dead", 3, 0), "dead")
		w.Client("dead").Cut() // its lease is good for another ttl, longer than it has to wait
		w.pass(30 * time.Second)
		require.NoError(w, term.Err())
		dead.cancel()
		w.Client("dead").Heal()

		came := time.Now()
		well := w.run(w.takingOver("well", 4, 0), nil)
		well.term()
		require.InDelta(w, 5*time.Second, time.Since(came), float64(time.Second))
		well.end()
		run.term()
		run.end()
	})
}

// A candidate that an operator has named leads, whatever the priorities.
func TestALeaderByTransferMakesWayForNobody(t *testing.T) {
	simulate(t, func(w *world) {
		high := w.run(w.takingOver("high", 2, 0), func(ctx context.Context, term *Term) error {
			select {
			case <-time.After(10 * time.Second):
				return term.Transfer(w.ctx, "of low")
			case <-ctx.Done():
				return nil
			}
		})
		high.term()
		low := w.run(w.takingOver("low", 1, 0), nil)
		led := low.term()
		w.pass(time.Minute)
		require.NoError(w, led.Err())
		low.end()
		high.term()
		high.end()
		w.pass(time.Second)
		w.empty("e")
		w.allGone()
	})
}

// A leader that called Campaign hears of it from AwaitPreemption.
func TestALeaderWithoutRunLearnsOfATakeover(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(w.takingOver("a", 0, time.Second), "a").get()
		_, err := term.AwaitPreemption(w.timeout(time.Minute))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		asks := start(w, term.AwaitPreemption)
		b, c := w.stands(w.takingOver("b", 1, 0), "b"), w.stands(w.takingOver("c", 2, 0), "c")
		asks.isWaiting()
		require.Contains(w, []string{"b", "c"}, asks.get().Value)
		require.NoError(w, term.Err(), "it is for the leader to decide")
		require.NoError(w, term.Resign(w.ctx))
		_, err = term.AwaitPreemption(w.ctx)
		require.ErrorIs(w, err, ErrReleased)
		led := c.get()
		asks = start(w, led.AwaitPreemption)
		w.pass(time.Minute)
		asks.isWaiting()
		require.NoError(w, led.Resign(w.ctx))
		asks.fails(ErrReleased)
		require.NoError(w, b.get().Resign(w.ctx))
		w.allGone()
	})
}

// The watch by which the leader looks out may break; it still learns of the candidate.
func TestATakeoverSurvivesBrokenWatches(t *testing.T) {
	simulate(t, func(w *world) {
		low := w.run(w.takingOver("low", 0, 0), nil)
		low.term()
		w.CutWatches()
		w.Compact(0)
		w.Stop()
		w.pass(2 * time.Second)
		w.Start()
		high := w.run(w.takingOver("high", 1, 0), nil)
		came := time.Now()
		high.term()
		require.Less(w, time.Since(came), 15*time.Second)
		high.end()
		low.end()
		w.allGone()
	})
}

func TestATakeoverAfterANegativeTimeIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		e := w.takingOver("a", 0, -time.Second)
		_, err := e.Campaign(w.ctx, "a")
		require.ErrorIs(w, err, ErrInvalidOption)
		require.ErrorIs(w, e.Run(w.ctx, "a", func(context.Context, *Term) error { return errors.New("led") }), ErrInvalidOption)
	})
}

// Whether the candidate lives is asked again when the answer is lost.
func TestATakeoverSurvivesALostAnswer(t *testing.T) {
	simulate(t, func(w *world) {
		low := w.run(w.takingOver("low", 0, 0), nil)
		low.term()
		w.first(2, "low", simetcd.LeaseTimeToLive, simetcd.Action{DropReply: true})
		high := w.run(w.takingOver("high", 1, 0), nil)
		came := time.Now()
		high.term()
		require.Less(w, time.Since(came), 5*time.Second)
		high.end()
		low.end()
		w.allGone()
	})
}
