package etcdlock

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
)

// RunOption changes what [Election.Run] does by default.
type RunOption interface{ applyRun(*runConfig) }

// StuckExitCode is the code with which [WithExitWhenStuck] ends the process. It is the code of an
// internal software error (EX_SOFTWARE in sysexits.h).
const StuckExitCode = 70

// runConfig holds every default of Run in one place; validate holds every bound.
type runConfig struct {
	stop     time.Duration // 0: no bound
	progress time.Duration // 0: no progress is expected
	stuck    func(StuckTerm)
	exits    bool
	exit     func(code int) // os.Exit, except in tests

	health *HealthCheck // nil: always healthy

	honours bool // requests to resign

	onLeader func(Leader)
	onRole   func(Role)
	monitor  *Monitor
}

func newRunConfig(opts []RunOption) (runConfig, error) {
	cfg := runConfig{exit: os.Exit}
	for _, o := range opts {
		o.applyRun(&cfg)
	}
	return cfg, cfg.validate()
}

func (c *runConfig) validate() error {
	switch {
	case c.stop < 0:
		return fmt.Errorf("%w: stop timeout %v is negative", ErrInvalidOption, c.stop)
	case c.progress < 0:
		return fmt.Errorf("%w: time without progress %v is negative", ErrInvalidOption, c.progress)
	case c.stop == 0 && (c.exits || c.stuck != nil):
		return fmt.Errorf("%w: WithOnStuck and WithExitWhenStuck need WithStopTimeout", ErrInvalidOption)
	case c.health != nil && (c.health.Check == nil || c.health.Interval <= 0 || c.health.Failures <= 0):
		return fmt.Errorf("%w: WithHealthCheck needs a Check, and an Interval and Failures above 0", ErrInvalidOption)
	}
	return nil
}

// ownLease reports whether the term may be left to the end of its lease. Such a term
// must not share its lease.
func (c *runConfig) ownLease() bool { return c.stop > 0 || c.progress > 0 }

// trace returns the callbacks as hooks, so that a Run has one source of events for both.
func (c *runConfig) trace() *Trace {
	t := &Trace{}
	if c.onRole != nil {
		t.Role = func(_ context.Context, r RoleInfo) { c.onRole(r.Role) }
	}
	if c.onLeader != nil {
		t.LeaderSeen = func(_ context.Context, l LeaderSeenInfo) { c.onLeader(l.Leader) }
	}
	if c.stuck != nil {
		t.Stuck = func(_ context.Context, s StuckTerm) { c.stuck(s) }
	}
	return t
}

// loop returns the part of a loop's configuration that the options decide.
func (c *runConfig) loop() leaderloop.Config {
	l := leaderloop.Config{StopTimeout: c.stop, ProgressEvery: c.progress, ResignOnRequest: c.honours}
	if c.exits {
		l.Exit = func() { c.exit(StuckExitCode) }
	}
	if h := c.health; h != nil {
		l.Health = &leaderloop.HealthCheck{Interval: h.Interval, Failures: h.Failures, Check: h.Check}
	}
	return l
}

type runOptionFunc func(*runConfig)

func (f runOptionFunc) applyRun(c *runConfig) { f(c) }

// WithStopTimeout sets how long the function of [Election.Run] may take to return after its context
// has ended. The default is 0, which sets no limit.
//
// Run never resigns while the function runs. A function that has not returned in time is stuck. The
// lease of the term is then not renewed any more, so another process can lead at most one TTL
// later, although the function may still run. [WithOnStuck] is called, and [WithExitWhenStuck] ends
// the process. Run itself continues to wait.
//
// A term can be lost before the function was told to stop, or after. Another process can then lead
// as soon as the session's margin is over ([WithMargin]), and the function has three quarters of
// the margin if that is shorter, which is at most 0.75 s of the default margin. Choose a margin of
// four thirds of the time that the function needs. Run logs at its start how long the function has
// after a loss, and [ElectionStatus] has it too.
//
// The term has a lease of its own with this option, with the TTL of the election's session and
// through the same client, so that nothing else ends with it.
func WithStopTimeout(d time.Duration) RunOption {
	return runOptionFunc(func(c *runConfig) { c.stop = d })
}

// WithOnStuck sets a callback that is called once a term when the function of [Election.Run] is
// stuck, see [WithStopTimeout]. Use it to dump goroutines or to raise an alarm. No other callback
// delays it, and Run waits for it. It is called before [WithExitWhenStuck] ends the process. The
// exit waits for it for at most a second, or for an eighth of the margin if the term was lost.
func WithOnStuck(f func(StuckTerm)) RunOption {
	return runOptionFunc(func(c *runConfig) { c.stuck = f })
}

// WithExitWhenStuck ends the process, by [os.Exit] with [StuckExitCode], when the function of
// [Election.Run] is stuck, see [WithStopTimeout]. On a machine that runs at all, it ensures that
// the work of a lost term ends before another process leads. The lease is left to expire, as after
// any crash.
func WithExitWhenStuck() RunOption {
	return runOptionFunc(func(c *runConfig) { c.exits = true })
}

// WithProgress requires the function of [Election.Run] to call [Term.Progress] at least every d. If
// it does not, its context ends with [ErrNoProgress], and the lease of the term is not renewed any
// more. Another process can then lead at most one TTL later, whatever the function does, and as
// soon as the function has returned if it returns before. Run then campaigns again. The option is
// for work that hangs in a live process, which would otherwise renew its lease without end.
//
// The term has a lease of its own with this option, see [WithStopTimeout].
func WithProgress(d time.Duration) RunOption {
	return runOptionFunc(func(c *runConfig) { c.progress = d })
}

// HealthCheck is the check of [WithHealthCheck]. All of its fields are required.
type HealthCheck struct {
	Interval time.Duration // between two calls of Check, and the time that a call may take
	Failures int           // in a row that make a process unhealthy

	// Check returns nil while the process is able to lead. Its context ends after the Interval.
	Check func(ctx context.Context) error
}

// WithHealthCheck makes [Election.Run] campaign and lead only while a check returns nil. The check
// is called at once, and then every Interval. A check that has not returned within the Interval has
// failed, and the next one begins when it has returned. A check that calls [runtime.Goexit] has
// failed. A panic in it is not recovered and ends the program, as a panic in any callback of Run
// does.
//
// Run does not campaign before the first check has passed. After as many failures in a row as
// Failures says a candidate leaves the queue, and the context of a leader's function ends with
// [ErrUnhealthy]. Run resigns when the function has returned. Run campaigns again after as many
// passes in a row. If the check soon fails again, twice as many passes are needed, then four times
// as many, up to 32 times as many, until it has passed ten times as often as it had to.
//
// Run returns [ErrInvalidOption] without a Check, an Interval or a number of Failures.
func WithHealthCheck(h HealthCheck) RunOption {
	return runOptionFunc(func(c *runConfig) { c.health = &h })
}

// WithResignOnRequest makes [Election.Run] honour requests to resign: of [Session.Ask] and
// "etcdlock ask", of [Election.AskToResign] and "etcdlock step-down", and of
// [Election.AskToTransfer] and "etcdlock transfer". A request ends the context of the function with
// [ErrResignRequested]. When the function has returned, Run resigns, or transfers the leadership to
// the candidate that the request names, as [Term.Transfer] does. Without that candidate Run
// resigns. It then campaigns again after a pause of a second, at the end of the queue.
//
// A request is to one term. A later term does not receive it. A request for a candidate that does
// not wait is refused, and the function runs on. Requests during the stop of a function change
// nothing.
//
// The leader announces in etcd, beside the queue, that it honours requests. The client's user needs
// the permission to write keys that begin with the name and a zero byte. Without the permission Run
// logs a warning and honours no request. Each user that may write these keys can end a term.
//
// The option does not bound how long the function takes to return. See [WithStopTimeout].
func WithResignOnRequest() RunOption {
	return runOptionFunc(func(c *runConfig) { c.honours = true })
}

// WithOnLeader sets a callback for each observation of the leader, which may be this process or
// another one; see [Election.Observe]. For how callbacks are called see [WithOnRole].
func WithOnLeader(f func(Leader)) RunOption {
	return runOptionFunc(func(c *runConfig) { c.onLeader = f })
}

// WithOnRole sets a callback for each role that [Election.Run] has, from the first to the last,
// which is [RoleObserver].
//
// Callbacks of one Run are called one after the other, in order, beside the function. A callback
// that blocks delays later callbacks and the return of Run, and nothing else. It is called late,
// and what it reports may have passed. Work that must be done only while leading belongs in the
// function. A callback that calls [runtime.Goexit] has returned.
func WithOnRole(f func(Role)) RunOption {
	return runOptionFunc(func(c *runConfig) { c.onRole = f })
}

// WithMonitor connects m to the Run, so that m can report the status of the Run.
func WithMonitor(m *Monitor) RunOption {
	return runOptionFunc(func(c *runConfig) { c.monitor = m })
}
