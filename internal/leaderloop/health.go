package leaderloop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// HealthCheck is a check of a user's.
type HealthCheck struct {
	Interval time.Duration // between two calls, and the time that a call may take
	Failures int           // in a row that make the process unhealthy
	Check    func(ctx context.Context) error
}

// health calls the check of a Run, and knows whether the process may campaign.
type health struct {
	check   HealthCheck
	publish func(error) // given each change; nil when the process is healthy
	state   healthState // of the goroutine of run

	mu      sync.Mutex              // guards the fields below
	healthy context.Context         // ends with ErrUnhealthy; nil while unhealthy
	fall    context.CancelCauseFunc // ends healthy
	changed chan struct{}           // closed, and replaced, when healthy is set
}

func newHealth(check HealthCheck, publish func(error)) *health {
	return &health{check: check, publish: publish, state: newHealthState(check.Failures), changed: make(chan struct{})}
}

var (
	errUnchecked = errors.New("no health check has passed yet")
	errHangs     = errors.New("the health check does not return")
	errNoResult  = errors.New("the health check ended its goroutine with runtime.Goexit")
)

// run checks until ctx ends, and returns when the last check has.
func (h *health) run(ctx context.Context) {
	ticker := time.NewTicker(h.check.Interval)
	defer ticker.Stop()
	h.publish(fmt.Errorf("%w: %w", lockerr.ErrUnhealthy, errUnchecked))
	for ctx.Err() == nil {
		h.checkOnce(ctx, ticker.C)
	}
}

// checkOnce makes one call of the check, waits for the result, and then for the next tick. A call that
// is still running at a tick counts as a failure at each such tick. Its own result is then ignored,
// and the next call follows as soon as it has returned.
func (h *health) checkOnce(ctx context.Context, tick <-chan time.Time) {
	result, overdue := h.start(ctx), false
	for {
		select {
		case err := <-result:
			if overdue || ctx.Err() != nil {
				return
			}
			h.add(err)
			select {
			case <-tick:
			case <-ctx.Done():
			}
			return
		case <-tick:
			overdue = true
			h.add(errHangs)
		case <-ctx.Done():
			<-result //nolint:errcheck // the call is waited for, whatever its result is
			return
		}
	}
}

// start calls the check in a goroutine of its own.
func (h *health) start(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, h.check.Interval)
	go func() {
		err := errNoResult // until the check has returned
		defer func() { cancel(); result <- err }()
		err = h.check.Check(ctx)
	}()
	return result
}

// add counts the result of a check.
func (h *health) add(err error) {
	if !h.state.add(err == nil) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.healthy {
		h.healthy, h.fall = context.WithCancelCause(context.Background())
		close(h.changed)
		h.changed = make(chan struct{})
		h.publish(nil)
		return
	}
	why := fmt.Errorf("%w: %w", lockerr.ErrUnhealthy, err)
	h.publish(why)
	h.fall(why)
	h.healthy = nil
}

// standing waits until the process is healthy, and returns a context that ends with ctx, or when the
// process is healthy no more. The error is the cause of the end of ctx.
func (h *health) standing(ctx context.Context) (context.Context, func(), error) {
	standing, cancel := context.WithCancelCause(ctx)
	if h == nil {
		return standing, func() { cancel(nil) }, nil
	}
	for {
		h.mu.Lock()
		healthy, changed := h.healthy, h.changed
		h.mu.Unlock()
		if healthy != nil {
			stop := context.AfterFunc(healthy, func() { cancel(context.Cause(healthy)) })
			return standing, func() { stop(); cancel(nil) }, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			cancel(nil)
			return nil, nil, context.Cause(ctx)
		}
	}
}

// healthState makes a state of a series of results. A process that flaps must pass more and more
// checks in a row to be healthy again.
type healthState struct {
	failures       int  // in a row that make the process unhealthy
	requiredPasses int  // in a row that make the process healthy
	healthy        bool // what the process is
	fallen         bool // the process was healthy once, and fell
	streak         int  // results in a row that speak against healthy
	passes         int  // since the process is healthy
}

func newHealthState(failures int) healthState {
	return healthState{failures: failures, requiredPasses: 1}
}

const (
	// maxPassFactor is how many times as many passes as failures are required at most.
	maxPassFactor = 32
	// trustFactor is how many times as often as required the check must pass, until no more passes are
	// required after the next fall than after the first.
	trustFactor = 10
)

// add counts one result, and reports whether healthy has changed.
func (s *healthState) add(pass bool) (changed bool) {
	if pass && s.healthy {
		s.passes++
	}
	if pass == s.healthy {
		s.streak = 0
		return false
	}
	s.streak++
	if s.healthy && s.streak < s.failures || !s.healthy && s.streak < s.requiredPasses {
		return false
	}
	s.streak = 0
	s.healthy = !s.healthy
	if s.healthy {
		s.passes = 0
		return true
	}
	if !s.fallen || s.passes >= trustFactor*s.requiredPasses {
		s.fallen, s.requiredPasses = true, s.failures
	} else {
		s.requiredPasses = min(2*s.requiredPasses, maxPassFactor*s.failures)
	}
	return true
}
