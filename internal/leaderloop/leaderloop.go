// Package leaderloop is the main loop of a service with one active instance: it campaigns, runs the
// work of a term, stops it, and campaigns again. It knows nothing of etcd. A term is an interface,
// and the root package says how to campaign for one.
//
// A loop has one role at a time (state.go):
//
//	observer ──▶ candidate ──▶ leading ──▶ stopping
//	   ▲             │            │            │
//	   └─────────────┴────────────┴────────────┘
//
// What holds in every term (term.go, watchdog.go):
//
//   - The context of the work ends with the term, so before another process can lead.
//   - A term is resigned only after its work has returned, panicked or called runtime.Goexit. A
//     panic and a Goexit propagate, and release everything on the way.
//   - The lease of work that does not stop in time, or reports no progress, is no longer renewed. It
//     then expires. It is ended earlier only after the work has returned.
//   - When a term is lost, the work has six eighths of the lease's margin to return in. The seventh
//     eighth is for the callback that reports stuck work, and the process exits before the last one.
//
// When Run returns, all goroutines of the loop have ended and all callbacks have returned.
package leaderloop

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Config configures a loop. All functions except Ended, Open and Work may be nil.
type Config struct {
	Name string // of the election, for the log
	Log  *zap.Logger

	// Ended returns nil until the context of Run ends, and then the error that Run returns. It may
	// return this error shortly before the context ends.
	Ended func() error

	// Open prepares the campaigns. It is called once, and what it returns is closed once.
	Open func(ctx context.Context) (Candidate, error)
	// Work is the work of one term.
	Work func(ctx context.Context, t Term) error
	// StepDown is true if the work of a term stops when a challenger preempts it.
	StepDown bool
	// ResignOnRequest is true if the work of a term stops when the term is asked to resign.
	ResignOnRequest bool

	StopTimeout   time.Duration // how long the work may take to return; 0 is as long as it takes
	ProgressEvery time.Duration // the longest time without progress; 0 if none is asked for
	OnStuck       func(t Term, cause error, after time.Duration)
	Exit          func() // ends the process when the work is stuck

	Health *HealthCheck // nil if the process is always healthy

	// OnRole, OnTermEnd and OnHealth are called from the callback queue. OnHealth is given each change,
	// nil when the process is healthy.
	OnRole    func(Role)
	OnTermEnd func(Term, TermEnd)
	OnHealth  func(error)
	// Monitor is given every new status, in order. It is called with a mutex held and must return at
	// once.
	Monitor func(Status)
	// Observe runs beside the campaigns until ctx ends. It hands each call of a user's callback to
	// callback, which never blocks and keeps the newest mostObservations of them.
	Observe func(ctx context.Context, callback func(call func()))
}

// Candidate campaigns for the terms of one loop.
type Candidate interface {
	// Campaign blocks until there is a term, ctx ends, or there can be none.
	Campaign(ctx context.Context) (Term, error)
	// Lease is the lease that the next term would have, or the last one that it would have had.
	Lease() Lease
	// Close ends what Open has begun.
	Close()
}

// Lease is what a loop needs to know of a lease before there is a term.
type Lease struct {
	ID     int64 // spreads the pauses of processes
	TTL    time.Duration
	Margin time.Duration // the safety margin, Delay included
	Delay  time.Duration // the lock-delay
}

// loop is a Run under way.
type loop struct {
	cfg       Config
	callbacks *callbackQueue
	state     *state
	candidate Candidate
	health    *health // nil if the process is always healthy
}

// errWorkEnded is the status of a Run that did not return, and the result of work that did not.
var errWorkEnded = errors.New("the function of Run ended its goroutine with runtime.Goexit or a panic")

// Run campaigns and leads until there is a reason to return: its context has ended, the work of a
// term has returned although it was not told to stop, or no term is to be had.
func Run(ctx context.Context, cfg Config) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	callbacks := startCallbackQueue()
	defer callbacks.close()
	l := &loop{cfg: cfg, callbacks: callbacks, state: newState(cfg, callbacks, fail)}
	err := errWorkEnded // unless run returns
	defer func() { l.state.end(err) }()
	l.state.enter(RoleObserver, nil)
	err = l.run(ctx)
	return err
}

// run starts the goroutines that run beside the campaigns, and ends them.
func (l *loop) run(ctx context.Context) (err error) {
	if l.candidate, err = l.cfg.Open(ctx); err != nil {
		if ended := l.ended(ctx); ended != nil {
			return ended
		}
		return err
	}
	defer l.candidate.Close()
	l.announceLimits()
	beside, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	if l.cfg.Observe != nil {
		helpers.Go(func() { l.cfg.Observe(beside, l.callbacks.putLimited) })
	}
	if l.cfg.Health != nil {
		l.health = newHealth(*l.cfg.Health, l.state.setHealth)
		helpers.Go(func() { l.health.run(beside) })
	}
	return l.campaigns(ctx)
}

// announceLimits tells, before the first term, how long the work has to return. After a loss that is
// mostly less than the stop timeout, because others can lead when the margin is over.
func (l *loop) announceLimits() {
	lease := l.candidate.Lease()
	afterLoss := share(lease.Margin, workEighths)
	if l.cfg.StopTimeout > 0 {
		afterLoss = min(afterLoss, l.cfg.StopTimeout)
	}
	l.state.setStopAfterLoss(afterLoss)
	if l.cfg.StopTimeout > 0 {
		l.cfg.Log.Info("campaigning; the function of Run must return in time when its context ends", zap.String("name", l.cfg.Name),
			zap.Duration("timeout", l.cfg.StopTimeout), zap.Duration("timeout-after-loss", afterLoss),
			zap.Duration("ttl", lease.TTL), zap.Duration("margin", lease.Margin-lease.Delay), zap.Bool("exits", l.cfg.Exit != nil))
	}
}

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second

	// requestedPause is the pause after a term that was asked to resign. The next candidate leads
	// meanwhile, although it may have a lower priority.
	requestedPause = time.Second
)

// campaigns runs one round after the other, with a pause between two rounds. The pause grows after
// each lost term that was shorter than a TTL.
func (l *loop) campaigns(ctx context.Context) error {
	for failed := 0; ; {
		r := l.round(ctx)
		switch ended := l.ended(ctx); {
		case r.over:
			return r.err
		case ended != nil:
			return ended
		case errors.Is(r.err, lockerr.ErrSessionClosed):
			return r.err
		case errors.Is(r.err, lockerr.ErrUnhealthy):
			failed = 0
			continue // when the process is healthy again
		case errors.Is(r.err, lockerr.ErrResignRequested):
			failed = 0
			sleep(ctx, requestedPause)
			continue
		case r.err == nil, errors.Is(r.err, lockerr.ErrPreempted): // it stepped down
			failed = 0
		case !errors.Is(r.err, lockerr.ErrLost) && !errors.Is(r.err, lockerr.ErrNoProgress):
			return r.err
		case r.long:
			failed = 0
		}
		sleep(ctx, backoff.Delay(failed, firstPause, longestPause, l.candidate.Lease().ID))
		failed++
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// ended is the error of Run when its context has ended, and nil before.
func (l *loop) ended(ctx context.Context) error {
	if err := l.cfg.Ended(); err != nil {
		return err
	}
	return context.Cause(ctx) // not nil after an illegal edge
}

// round is the result of one way from observer to observer.
type round struct {
	over bool  // Run ends with err
	err  error // why the campaign failed or the term ended; nil if the work stepped down
	long bool  // the term took more than a TTL
}

// round waits until the process is healthy, campaigns, and leads.
func (l *loop) round(ctx context.Context) (r round) {
	standing, stop, err := l.health.standing(ctx)
	if err != nil {
		return round{err: err}
	}
	defer stop()
	l.state.enter(RoleCandidate, nil)
	defer l.state.enter(RoleObserver, nil)
	term, err := l.candidate.Campaign(standing)
	if err != nil {
		return round{err: err}
	}
	began := time.Now()
	r.over, r.err = l.lead(ctx, standing, term)
	r.long = time.Since(began) > term.TTL()
	return r
}
