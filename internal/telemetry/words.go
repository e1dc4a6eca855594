// Package telemetry has what metrics, spans and logs have in common: the words of their labels, the names
// that have series of their own, and figures that are kept between two scrapes. The root and the modules
// prometheus and otel import it.
package telemetry

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Outcome is how a call that acquires has ended, by its error.
func Outcome(err error) string {
	switch {
	case err == nil:
		return "granted"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "gave_up"
	case errors.Is(err, lockerr.ErrLocked):
		return "locked"
	default:
		return "failed"
	}
}

// Mode is how a call acquires.
func Mode(election, try bool) string {
	switch {
	case election:
		return "campaign"
	case try:
		return "try"
	default:
		return "wait"
	}
}

// Losses are the words of ErrorType for the losses for which an operator has a runbook. A session or a
// client that was closed is none.
var Losses = []string{"expired", "revoked", "evicted", "rolled_back", "orphaned", "no_progress", "held_too_long"}

// TermEnds are the words of TermEnd.
var TermEnds = append([]string{
	returned, failed, resigned, transferred,
	"resign_requested", "preempted", "unhealthy", "canceled", "deadline_exceeded", "closed", "client_closed",
}, Losses...)

// The words of TermEnd that ErrorType does not have.
const (
	returned    = "returned"    // the function of Run has returned nil, without having been told to stop
	failed      = "failed"      // it has returned an error, or ended its goroutine, without having been told to
	resigned    = "resigned"    // it has resigned
	transferred = "transferred" // it has transferred the term
)

// ErrTransferred is why the work of a term was told to stop that has transferred the term.
var ErrTransferred = fmt.Errorf("the term was transferred: %w", lockerr.ErrReleased)

// TermEnd is why the work of a term has ended: the first reason for which it was told to stop, or what it
// did by itself. told, lost and err are the fields of TermEndInfo, and errorType is ErrorType.
func TermEnd(told, lost, err error, errorType func(error) string) string {
	if told == nil {
		told = lost
	}
	switch {
	case errors.Is(told, ErrTransferred):
		return transferred
	case errors.Is(told, lockerr.ErrReleased):
		return resigned
	case told != nil:
		return errorType(told)
	case err != nil:
		return failed
	default:
		return returned
	}
}
