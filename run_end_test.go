package etcdlock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

func TestRunRefusesOptionsThatCannotWork(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		check := func(context.Context) error { return nil }
		for _, opts := range [][]RunOption{
			{WithStopTimeout(-1)}, {WithProgress(-1)}, {WithExitWhenStuck()}, {WithOnStuck(func(StuckTerm) {})},
			{WithHealthCheck(HealthCheck{})},
			{WithHealthCheck(HealthCheck{Interval: time.Second, Check: check})},
			{WithHealthCheck(HealthCheck{Failures: 1, Check: check})},
			{WithHealthCheck(HealthCheck{Interval: time.Second, Failures: -1, Check: check})},
			{WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1})},
		} {
			err := e.Run(w.ctx, "A", func(context.Context, *Term) error { panic("must not lead") }, opts...)
			require.ErrorIs(w, err, ErrInvalidOption)
			require.ErrorContains(w, err, `run "e"`)
		}
	})
}

// A process that loses each term at once does not campaign in a tight loop.
func TestRunPausesLongerAndLongerWhileItsTermsAreLostAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(NewElection(w.session("a"), "e"), nil)
		var pauses []time.Duration
		for range 12 {
			term := run.term()
			w.pass(time.Second)
			lost := time.Now()
			w.DeleteKey(term.Key())
			for len(run.terms) == 0 {
				w.pass(10 * time.Millisecond)
			}
			pauses = append(pauses, time.Since(lost))
		}
		require.Less(w, pauses[0], 200*time.Millisecond)
		require.Greater(w, pauses[11], 2*time.Second)
		require.Less(w, pauses[11], 6*time.Second)
		run.term()
		w.pass(time.Minute) // a term as it should be
		w.DeleteKey(string(w.Keys("e/")[0].Key))
		lost := time.Now()
		run.term()
		require.Less(w, time.Since(lost), 300*time.Millisecond, "what is over is forgiven")
	})
}

// Processes that lose their leases at the same time have none while they pause, and come back spread out.
func TestProcessesThatLoseTheirTermsTogetherPauseForDifferentTimes(t *testing.T) {
	simulate(t, func(w *world) {
		pauses := make(chan time.Duration, 10)
		var runs []*running
		var sessions []*Session
		var lost time.Time
		for _, name := range []string{"a", "b", "c"} {
			s := w.session(name)
			run := w.run(NewElection(s, "e/of/"+name), nil, WithOnRole(func(r Role) {
				if r == RoleCandidate && !lost.IsZero() {
					pauses <- time.Since(lost)
				}
			}))
			run.term()
			runs, sessions = append(runs, run), append(sessions, s)
		}
		w.pass(time.Second)
		lost = time.Now()
		for _, s := range sessions {
			s.engine.LastLease().End(lockerr.Lost(ErrExpired))
		}
		w.pass(time.Second)
		for _, r := range runs {
			r.term()
			r.end()
		}
		different := make(map[time.Duration]bool)
		for range runs {
			different[<-pauses] = true
		}
		require.Len(w, different, len(runs))
	})
}

func TestRunTellsItsRolesAndWhoLeadsOneAfterTheOther(t *testing.T) {
	simulate(t, func(w *world) {
		first := w.campaign(NewElection(w.session("b"), "e"), "B")
		var told []string // no lock: one call at a time
		late := 50 * time.Millisecond
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		}, WithOnRole(func(r Role) { time.Sleep(late); told = append(told, r.String()) }),
			WithOnLeader(func(l Leader) { time.Sleep(late); told = append(told, "leader "+l.Value) }))
		w.pass(time.Second)
		require.NoError(w, first.Proclaim(w.ctx, "B2"))
		w.pass(time.Second)
		require.NoError(w, first.Resign(w.ctx))
		term := run.term()
		w.pass(time.Second)
		w.DeleteKey(term.Key())
		run.term()
		w.pass(time.Second)
		run.end()
		var roles, leaders []string
		for _, s := range told {
			if l, ok := cutLeader(s); ok {
				leaders = append(leaders, l)
			} else {
				roles = append(roles, s)
			}
		}
		require.Equal(w, []string{
			"observer", "candidate", "leading", "stopping", "observer", "candidate", "leading", "stopping", "observer",
		}, roles)
		require.Equal(w, []string{"B", "B2", "of a", "", "of a"}, leaders)
	})
}

func cutLeader(s string) (string, bool) {
	const prefix = "leader "
	if len(s) >= len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return "", false
}

func TestRunWaitsForItsLastHealthCheck(t *testing.T) {
	simulate(t, func(w *world) {
		var returned time.Time
		run := w.run(NewElection(w.session("a"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				time.Sleep(10 * time.Second)
				returned = time.Now()
			case <-time.After(900 * time.Millisecond):
			}
			return nil
		}}))
		run.term()
		w.pass(300 * time.Millisecond)
		run.end()
		require.Equal(w, returned, run.at)
	})
}

// trap B13: what client-go leaves running is waited for here.
func TestNothingOfARunIsLeftWhenItReturns(t *testing.T) {
	simulate(t, func(w *world) {
		let, checking := make(chan struct{}), make(chan struct{}, 1)
		var left []string
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			left = append(left, "work")
			return nil
		}, WithStopTimeout(time.Minute), WithProgress(time.Hour), WithOnLeader(func(Leader) {}),
			WithOnRole(func(r Role) {
				if r == RoleStopping {
					<-let
					left = append(left, "callback")
				}
			}),
			WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: func(ctx context.Context) error {
				select {
				case <-ctx.Done(): // the last one
					time.Sleep(100 * time.Millisecond)
					checking <- struct{}{}
				case <-time.After(900 * time.Millisecond):
				}
				return nil
			}}))
		run.term()
		w.pass(time.Minute + 300*time.Millisecond) // a check is under way
		run.cancel()
		w.pass(time.Minute)
		run.isWaiting()
		close(let)
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		require.Equal(w, []string{"work", "callback"}, left)
		require.Len(w, checking, 1, "the check has returned")
		synctest.Wait()
		w.allGone()
	})
}

func TestTheElectionsSessionEndsARunThatHasALeaseOfItsOwn(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		var ended, returned time.Time
		run := w.run(NewElection(a, "e"), func(ctx context.Context, term *Term) error {
			<-ctx.Done()
			ended = time.Now()
			require.ErrorIs(w, context.Cause(ctx), ErrSessionClosed)
			time.Sleep(3 * ttl)
			require.NoError(w, term.Err(), "not given away while the work runs")
			require.Len(w, w.Keys("e/"), 1)
			returned = time.Now()
			return errors.New("as it was told to stop")
		}, WithStopTimeout(time.Minute))
		run.term()
		asked := time.Now()
		require.NoError(w, a.Close(w.ctx))
		_, err := run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.Equal(w, asked, ended)
		require.Less(w, run.at.Sub(returned), time.Second)
		w.allGone()
	})
}

func TestARunWithALeaseOfItsOwnEndsWithinATTLWhileEtcdIsAway(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(NewElection(w.session("a"), "e"), nil, WithStopTimeout(time.Minute))
		run.term()
		w.Stop()
		asked := time.Now()
		run.end()
		require.LessOrEqual(w, run.at.Sub(asked), ttl+time.Second)
		w.Start()
		w.pass(ttl + time.Second) // no process is left to revoke it
		w.empty("e")
	})
}
