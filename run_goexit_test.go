package etcdlock

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"
)

// report E12: a check that ends its goroutine has failed, and the next one begins.
func TestAHealthCheckThatCallsGoexitHasFailed(t *testing.T) {
	simulate(t, func(w *world) {
		var exits atomic.Bool
		causes := make(chan error, 10)
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil
		}, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 2, Check: func(context.Context) error {
			if exits.Load() {
				runtime.Goexit()
			}
			return nil
		}}))
		run.term()
		exits.Store(true)
		cause := <-causes
		require.ErrorIs(w, cause, ErrUnhealthy)
		require.ErrorContains(w, cause, "Goexit")
		w.pass(time.Minute)
		w.empty("e")
		exits.Store(false)
		run.term()
		exits.Store(true) // and Run does not wait for such a check when it ends
		w.pass(1100 * time.Millisecond)
		run.end()
		w.allGone()
	})
}

// report E12: one callback that ends its goroutine costs the others nothing.
func TestACallbackThatCallsGoexitHasReturned(t *testing.T) {
	simulate(t, func(w *world) {
		var roles []Role
		var leaders []string
		run := w.run(NewElection(w.session("a"), "e"), nil,
			WithOnRole(func(r Role) { roles = append(roles, r); runtime.Goexit() }),
			WithOnLeader(func(l Leader) { leaders = append(leaders, l.Value); runtime.Goexit() }))
		run.term()
		w.pass(time.Second)
		run.end()
		require.Equal(w, []Role{RoleObserver, RoleCandidate, RoleLeading, RoleStopping, RoleObserver}, roles)
		require.Equal(w, []string{"of a"}, leaders)
	})
}

// report E12
func TestTheProcessEndsThoughTheCallbackOfStuckWorkCallsGoexit(t *testing.T) {
	simulate(t, func(w *world) {
		d, exited := newDeaf(), make(chan time.Time, 1)
		run := w.run(NewElection(w.session("a"), "e"), d.work, WithStopTimeout(time.Second),
			WithOnStuck(func(StuckTerm) { runtime.Goexit() }), exitAt(d, exited))
		run.term()
		asked := time.Now()
		run.cancel()
		require.Equal(w, time.Second, (<-exited).Sub(asked))
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
	})
}

// report E12: as t.FailNow does in a test. Run does not return then, but what it began is ended.
func TestAfterWorkThatCallsGoexitNothingIsLeft(t *testing.T) {
	for name, opts := range map[string][]RunOption{
		"plain": nil,
		"all options": {
			WithStopTimeout(time.Second), WithProgress(time.Minute), WithOnRole(func(Role) {}), WithOnLeader(func(Leader) {}),
			WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error { return nil }}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				var monitor Monitor
				var roles []Role
				var led *Term
				e := NewElection(w.session("a"), "e", WithTakeover(0))
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					_ = e.Run(w.ctx, "A", func(_ context.Context, term *Term) error {
						led = term
						time.Sleep(time.Second)
						runtime.Goexit()
						return nil
					}, append(opts, WithMonitor(&monitor), WithOnRole(func(r Role) { roles = append(roles, r) }))...)
					w.Error("it returned")
				}()
				<-gone
				require.ErrorIs(w, led.Err(), ErrReleased)
				require.Equal(w, RoleObserver, roles[len(roles)-1])
				s := monitor.Status()
				require.False(w, s.Running)
				require.False(w, s.Leading())
				require.Nil(w, s.Term)
				require.ErrorContains(w, s.Err, "Goexit")
				w.pass(time.Second)
				w.empty("e")
				w.allGone()
			})
		})
	}
}

// report E12: a panic of a check or a callback ends the program, as that of any goroutine does. It is not taken for an
// answer, nor does anything wait for one.
func TestAPanicOfACallbackEndsTheProgram(t *testing.T) {
	const env = "ETCDLOCK_TEST_PANIC"
	callbacks := map[string]func(d *deaf) []RunOption{
		"check": func(*deaf) []RunOption {
			return []RunOption{WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error { panic("of check") }})}
		},
		"role":   func(*deaf) []RunOption { return []RunOption{WithOnRole(func(Role) { panic("of role") })} },
		"leader": func(*deaf) []RunOption { return []RunOption{WithOnLeader(func(Leader) { panic("of leader") })} },
		"stuck": func(*deaf) []RunOption {
			return []RunOption{WithStopTimeout(time.Second), WithProgress(time.Second), WithOnStuck(func(StuckTerm) { panic("of stuck") })}
		},
	}
	if which := os.Getenv(env); which != "" {
		simulate(t, func(w *world) {
			d := newDeaf()
			run := w.run(NewElection(w.session("a"), "e"), d.work, callbacks[which](d)...)
			w.pass(time.Minute)
			close(d.let)
			run.end()
		})
		return
	}
	for which := range callbacks {
		t.Run(which, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAPanicOfACallbackEndsTheProgram$")
			cmd.Env = append(os.Environ(), env+"="+which)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, string(out))
			require.Contains(t, string(out), "panic: of "+which)
		})
	}
}

// report E14: the term of work that gives it up by itself is over, and that is no trouble with looking out for others.
func TestWorkThatStepsDownRaisesNoFalseAlarm(t *testing.T) {
	for name, stepDown := range map[string]func(w *world, term *Term) error{
		"resigns":   func(w *world, term *Term) error { return term.Resign(w.ctx) },
		"transfers": func(w *world, term *Term) error { return term.Transfer(w.ctx, "next") },
	} {
		t.Run(name, func(t *testing.T) {
			for range 40 {
				simulate(t, func(w *world) {
					core, logs := logged.New(zapcore.InfoLevel)
					e := NewElection(w.session("a", WithLogger(zap.New(core))), "e", WithTakeover(0))
					run := w.run(e, func(_ context.Context, term *Term) error {
						time.Sleep(time.Second)
						return stepDown(w, term)
					})
					run.term()
					next := w.stands(NewElection(w.session("b"), "e"), "next")
					term := next.get()
					w.pass(time.Second)
					run.end()
					require.NoError(w, term.Resign(w.ctx))
					require.Empty(w, logs.All())
				})
			}
		})
	}
}
