package etcdlock

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deaf is work that does not return before it is let go, whatever its context says.
type deaf struct {
	told chan error // why its context ended
	at   chan time.Time
	let  chan struct{}
}

func newDeaf() *deaf {
	return &deaf{told: make(chan error, 100), at: make(chan time.Time, 100), let: make(chan struct{})}
}

func (d *deaf) work(ctx context.Context, _ *Term) error {
	<-ctx.Done()
	d.told <- context.Cause(ctx)
	d.at <- time.Now()
	<-d.let
	return nil
}

// trap E7, B13: the lease of hanging work is not renewed without end, and only the end of the lease gives leadership away.
func TestTheTermOfWorkThatDoesNotStopIsLeftToItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		a, d := w.session("a"), newDeaf()
		other := w.lock(NewMutex(a, "other"))
		stuck := make(chan StuckTerm, 10)
		run := w.run(NewElection(a, "e"), d.work, WithStopTimeout(3*time.Second), WithOnStuck(func(s StuckTerm) { stuck <- s }))
		term := run.term()
		require.NotEqual(w, a.Lease(), term.of.Lease().ID(), "it has a lease of its own")
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Minute)
		require.NoError(w, term.Err())
		run.cancel()
		require.ErrorIs(w, <-d.told, context.Canceled)
		told := <-d.at

		s := <-stuck
		require.Equal(w, 3*time.Second, time.Since(told))
		require.Same(w, term, s.Term)
		require.ErrorIs(w, s.Cause, context.Canceled)
		require.Equal(w, 3*time.Second, s.After)
		require.NoError(w, term.Err(), "the lease stands")
		deadline := term.Deadline()
		next.isWaiting()
		next.get()
		require.True(w, next.at.After(deadline), "given away before the lease's end")
		require.Less(w, next.at.Sub(told), 3*time.Second+ttl+time.Second)
		require.ErrorIs(w, term.Err(), ErrExpired)
		w.pass(time.Minute)
		run.isWaiting() // for its function
		require.NoError(w, other.Err(), "nothing else ended with it")
		require.Empty(w, stuck, "told once")

		close(d.let)
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		require.NoError(w, other.Unlock(w.ctx))
		w.allGone()
	})
}

func TestWorkThatStopsInTimeIsNotStuck(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			return nil
		}, WithStopTimeout(3*time.Second), WithOnStuck(func(StuckTerm) { w.Error("it is not stuck") }), exitBy(func(int) { w.Error("no reason to") }))
		term := run.term()
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		asked := time.Now()
		run.cancel()
		next.get()
		require.ErrorIs(w, term.Err(), ErrReleased)
		require.Less(w, next.at.Sub(asked), 3*time.Second)
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		w.allGone()
	})
}

// exitBy is WithExitWhenStuck for a process that must go on.
func exitBy(exit func(code int)) RunOption {
	return runOptionFunc(func(c *runConfig) { c.exits, c.exit = true, exit })
}

// trap E7: the work of a lost term ends, with its process, before another process leads.
func TestAProcessWhoseWorkIgnoresTheLossOfItsTermEndsBeforeAnybodyElseLeads(t *testing.T) {
	for name, stuck := range map[string]func(StuckTerm){"": func(StuckTerm) {}, "though the callback hangs": func(StuckTerm) { time.Sleep(30 * time.Second) }} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				d, exited := newDeaf(), make(chan time.Time, 10)
				run := w.run(NewElection(w.session("a"), "e"), d.work, WithStopTimeout(time.Minute), WithOnStuck(stuck), exitBy(func(code int) {
					require.Equal(w, StuckExitCode, code)
					exited <- time.Now()
					close(d.let)
				}))
				run.term()
				next := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(time.Second)
				w.Client("a").Cut()
				next.get()
				require.ErrorIs(w, <-d.told, ErrExpired)
				require.Len(w, exited, 1)
				require.True(w, (<-exited).Before(next.at))
				w.Client("a").Heal()
				run.end()
			})
		})
	}
}

func TestAProcessThatIsToEndWhenItsWorkIsStuckDoesSoInTime(t *testing.T) {
	simulate(t, func(w *world) {
		d, exited := newDeaf(), make(chan time.Time, 1)
		var dumped time.Time
		run := w.run(NewElection(w.session("a"), "e"), d.work, WithStopTimeout(3*time.Second),
			WithOnStuck(func(StuckTerm) { time.Sleep(100 * time.Millisecond); dumped = time.Now() }),
			exitBy(func(int) { exited <- time.Now(); close(d.let) }))
		run.term()
		asked := time.Now()
		run.cancel()
		at := <-exited
		require.Equal(w, dumped, at, "after the callback")
		require.Equal(w, 3100*time.Millisecond, at.Sub(asked))
	})
}

// A machine sleeps after the work was told to stop, and its timers are late by that; the margin is short. (schedule 1344)
func TestAProcessWithAShortMarginThatSleptEndsBeforeItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		const margin = 80 * time.Millisecond
		var slept atomic.Int64
		bubble := bubbleClock()
		d, exited := newDeaf(), make(chan time.Time, 1)
		a := w.session("a", WithTTL(5*time.Second), WithMargin(margin), withClock(func() time.Duration { return bubble() + time.Duration(slept.Load()) }))
		run := w.run(NewElection(a, "e"), d.work, WithStopTimeout(3*time.Second),
			exitBy(func(int) { exited <- time.Now(); close(d.let) }))
		term := run.term()
		run.cancel()
		w.pass(time.Millisecond)
		left := time.Until(term.Deadline())
		slept.Store(int64(left - time.Millisecond)) // and no timer has fired
		lost := time.Now().Add(time.Millisecond)
		require.Less(w, (<-exited).Sub(lost), margin)
	})
}

// trap E7
func TestALeaderThatReportsNoProgressMakesRoom(t *testing.T) {
	const every = 5 * time.Second
	for name, hangs := range map[string]bool{"and stops when it is told to": false, "and hangs": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, d, why := w.session("a"), newDeaf(), make(chan error, 10)
				other := w.lock(NewMutex(a, "other"))
				var lazy time.Time
				run := w.run(NewElection(a, "e"), func(ctx context.Context, term *Term) error {
					for range 20 { // a long term
						select {
						case <-time.After(every - time.Second):
						case <-ctx.Done():
							return nil
						}
						term.Progress()
					}
					lazy = time.Now()
					if hangs {
						return d.work(ctx, term)
					}
					<-ctx.Done()
					why <- context.Cause(ctx)
					return context.Cause(ctx) // says nothing new
				}, WithProgress(every))
				term := run.term()
				next := w.candidate(NewElection(w.session("b"), "e"), "B")
				leader := next.get()
				if hangs {
					require.ErrorIs(w, <-d.told, ErrNoProgress)
					require.Equal(w, every, (<-d.at).Sub(lazy))
					require.ErrorIs(w, term.Err(), ErrExpired)
					require.Less(w, next.at.Sub(lazy), every+ttl+time.Second)
					close(d.let)
				} else {
					require.ErrorIs(w, <-why, ErrNoProgress)
					require.Less(w, next.at.Sub(lazy), every+100*time.Millisecond, "as soon as it has returned")
					require.ErrorIs(w, term.Err(), ErrReleased)
				}
				w.pass(2 * time.Second) // it campaigns again, on a lease that lives
				require.Equal(w, []string{"B", "of a"}, w.values("e"))
				place := w.Keys("e/")
				w.pass(time.Minute)
				require.Equal(w, place, w.Keys("e/"), "no candidate has lost its place")
				require.NoError(w, leader.Resign(w.ctx))
				run.term()
				require.NoError(w, other.Err())
				run.end()
			})
		})
	}
}
