package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// health runs the check of a Run, and knows whether it may stand.
type health struct {
	check    func(context.Context) error
	interval time.Duration
	told     func(error) // of each verdict; nil when it is well
	verdict  verdict     // of run's goroutine

	mu      sync.Mutex
	well    context.Context // ends with ErrUnhealthy; nil while unhealthy
	fall    context.CancelCauseFunc
	changed chan struct{} // closed, and replaced, when well is set
}

func newHealth(h HealthCheck) *health {
	return &health{
		check: h.Check, interval: h.Interval, told: func(error) {},
		verdict: verdict{failures: h.Failures, need: 1}, changed: make(chan struct{}),
	}
}

var (
	errUnchecked = errors.New("no health check has passed yet")
	errHangs     = errors.New("the health check does not return")
	errNoVerdict = errors.New("the health check has ended its goroutine by runtime.Goexit")
)

// run checks until ctx ends, and returns when the last check has.
func (h *health) run(ctx context.Context) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	var (
		result  chan error // nil while no check runs
		overdue bool
	)
	h.told(fmt.Errorf("%w: %w", ErrUnhealthy, errUnchecked))
	for {
		if result == nil && ctx.Err() == nil {
			answer := make(chan error, 1)
			result, overdue = answer, false
			bounded, cancel := context.WithTimeout(ctx, h.interval)
			go func() {
				err := errNoVerdict // until it has returned
				defer func() { cancel(); answer <- err }()
				err = h.check(bounded)
			}()
		}
		select {
		case err := <-result:
			result = nil
			if ctx.Err() != nil {
				return
			}
			if !overdue {
				h.judge(err)
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
			}
		case <-ticker.C:
			overdue = true
			h.judge(errHangs)
		case <-ctx.Done():
			if result != nil {
				<-result //nolint:errcheck // it is joined, whatever it says
			}
			return
		}
	}
}

// judge takes in the result of a check.
func (h *health) judge(err error) {
	if !h.verdict.take(err == nil) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verdict.well {
		h.well, h.fall = context.WithCancelCause(context.Background())
		close(h.changed)
		h.changed = make(chan struct{})
		h.told(nil)
		return
	}
	why := fmt.Errorf("%w: %w", ErrUnhealthy, err)
	h.told(why)
	h.fall(why)
	h.well = nil
}

// standing waits until it is well, and returns a context that ends with ctx, or when
// it is not well any more. The error is that of ctx or of session.
func (h *health) standing(ctx, session context.Context) (context.Context, func(), error) {
	standing, cancel := context.WithCancelCause(ctx)
	if h == nil {
		return standing, func() { cancel(nil) }, nil
	}
	for {
		h.mu.Lock()
		well, changed := h.well, h.changed
		h.mu.Unlock()
		if well != nil {
			stop := context.AfterFunc(well, func() { cancel(context.Cause(well)) })
			return standing, func() { stop(); cancel(nil) }, nil
		}
		var err error
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			err = contextError(ctx)
		case <-session.Done():
			err = context.Cause(session)
		}
		cancel(nil)
		return nil, nil, err
	}
}

// verdict makes a state of a row of results. Who flaps must prove himself for longer
// and longer.
type verdict struct {
	failures int  // so many in a row make it unwell
	need     int  // so many passes in a row make it well
	well     bool // what it is
	fallen   bool // it was well once
	row      int  // results in a row that speak against that
	passes   int  // since it is well
}

// maxNeed is how many times as many passes as failures are asked for at most, and
// proven how many times as often as asked a check must pass to be trusted as at first.
const (
	maxNeed = 32
	proven  = 10
)

// take takes in one result, and tells whether the verdict has changed.
func (v *verdict) take(pass bool) (changed bool) {
	if pass && v.well {
		v.passes++
	}
	if pass == v.well {
		v.row = 0
		return false
	}
	v.row++
	if v.well && v.row < v.failures || !v.well && v.row < v.need {
		return false
	}
	v.row = 0
	if v.well = !v.well; v.well {
		v.passes = 0
		return true
	}
	if !v.fallen || v.passes >= proven*v.need {
		v.fallen, v.need = true, v.failures
	} else {
		v.need = min(2*v.need, maxNeed*v.failures)
	}
	return true
}
