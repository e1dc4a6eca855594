package etcdlock

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errSick = errors.New("no disk")

// patient is what a health check looks at.
type patient struct {
	sick   atomic.Bool
	checks atomic.Int64
	hang   atomic.Pointer[chan struct{}]
}

func (p *patient) check(context.Context) error {
	p.checks.Add(1)
	if hang := p.hang.Load(); hang != nil {
		<-*hang
	}
	if p.sick.Load() {
		return errSick
	}
	return nil
}

func TestAnUnhealthyLeaderResignsWhenItsWorkHasReturned(t *testing.T) {
	simulate(t, func(w *world) {
		var p patient
		var told error
		var returned time.Time
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, term *Term) error {
			<-ctx.Done()
			told = context.Cause(ctx)
			time.Sleep(ttl)
			require.NoError(w, term.Err())
			returned = time.Now()
			return errWork // ends nothing
		}, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: p.check}))
		term := run.term()
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Minute)
		require.NoError(w, term.Err())
		p.sick.Store(true)
		sick := time.Now()
		leader := next.get()
		require.ErrorIs(w, told, ErrUnhealthy)
		require.ErrorIs(w, told, errSick)
		require.False(w, next.at.Before(returned))
		require.InDelta(w, (3*time.Second + ttl).Seconds(), next.at.Sub(sick).Seconds(), 1.1)
		w.pass(time.Minute)
		require.Equal(w, []string{"B"}, w.values("e"), "it does not stand")

		p.sick.Store(false)
		w.pass(5 * time.Second)
		require.Equal(w, []string{"B", "of a"}, w.values("e"))
		require.NoError(w, leader.Resign(w.ctx))
		run.term()
		run.end()
	})
}

func TestAnUnhealthyCandidateDoesNotStand(t *testing.T) {
	simulate(t, func(w *world) {
		var p patient
		p.sick.Store(true)
		run := w.run(NewElection(w.session("a"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 2, Check: p.check}))
		w.pass(time.Minute)
		w.empty("e")
		require.Empty(w, run.terms)
		p.sick.Store(false)
		w.pass(2 * time.Second)
		term := run.term()
		require.NoError(w, term.Err())
		run.end()

		leader := w.campaign(NewElection(w.session("b"), "e"), "B")
		run = w.run(NewElection(w.session("c"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 2, Check: p.check}))
		w.pass(5 * time.Second)
		require.Equal(w, []string{"B", "of c"}, w.values("e"))
		p.sick.Store(true)
		w.pass(5 * time.Second)
		require.Equal(w, []string{"B"}, w.values("e"), "it leaves the line")
		require.NoError(w, leader.Resign(w.ctx))
		w.pass(time.Minute)
		require.Empty(w, run.terms)
		run.isWaiting()
	})
}

func TestAHealthCheckThatHangsHasFailed(t *testing.T) {
	simulate(t, func(w *world) {
		var p patient
		run := w.run(NewElection(w.session("a"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: p.check}))
		term := run.term()
		w.pass(time.Minute)
		hang, checks := make(chan struct{}), p.checks.Load()
		p.hang.Store(&hang)
		w.pass(3500 * time.Millisecond)
		require.NoError(w, term.Err())
		w.pass(2 * time.Second)
		require.ErrorIs(w, term.Err(), ErrReleased)
		require.Equal(w, checks+1, p.checks.Load(), "one at a time")
		p.hang.Store(nil)
		close(hang)
		run.term()
	})
}

// A check that fails all the time and passes now and then does not pass leadership to and fro.
func TestFlappingHealthIsDamped(t *testing.T) {
	simulate(t, func(w *world) {
		var n atomic.Int64
		terms := 0
		run := w.run(NewElection(w.session("a"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error {
			if n.Add(1)%10 == 0 {
				return errSick
			}
			return nil
		}}))
		for range 60 {
			w.pass(time.Minute)
			terms += len(run.terms)
			for len(run.terms) > 0 {
				<-run.terms
			}
		}
		// 360 failures in this hour, each enough to resign.
		require.Less(w, terms, 10)
	})
}
