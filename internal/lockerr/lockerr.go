// Package lockerr has the errors that several packages return or match, and which the root
// package exports and documents under the same names.
package lockerr

import (
	"context"
	"errors"
	"fmt"
)

// Of calls that would have to wait, or that were refused.
var (
	ErrLocked          = errors.New("locked by another holder")
	ErrDeadlock        = errors.New("deadlock")
	ErrReentryLimit    = errors.New("too many holds of one turn")
	ErrUpgradeConflict = errors.New("another reader is already upgrading")
	ErrLimitMismatch   = errors.New("different limits for one semaphore")
	ErrNoLeader        = errors.New("no leader")
	ErrNoCandidate     = errors.New("no candidate with this value waits")
	ErrNotHonoured     = errors.New("the leader does not honour requests to resign")
)

// Causes of the end of a hold, a wait or a session. Lost wraps those that are the reason of a loss.
var (
	ErrLost          = errors.New("lost")
	ErrExpired       = errors.New("the lease expired, because no renewal was answered in time")
	ErrRevoked       = errors.New("the lease was revoked in etcd")
	ErrRolledBack    = errors.New("etcd was rolled back: its data is older than before, or that of another cluster")
	ErrEvicted       = errors.New("another client deleted its key")
	ErrHeldTooLong   = errors.New("held for longer than WithMaxHold allows")
	ErrOrphaned      = errors.New("the session was orphaned: its lease is left to the next process")
	ErrClientClosed  = errors.New("the etcd client was closed before the session")
	ErrReleased      = errors.New("already released")
	ErrUnconfirmed   = errors.New("released, but etcd has not confirmed that the key is gone")
	ErrSessionClosed = errors.New("session closed")
)

// Causes of the end of a term's work.
var (
	ErrUnhealthy       = errors.New("unhealthy")
	ErrNoProgress      = errors.New("no progress reported")
	ErrPreempted       = errors.New("a candidate of higher priority takes over")
	ErrResignRequested = errors.New("asked to resign")
)

// Of arguments and options that cannot work, and of sessions that cannot begin. The errors of one
// argument match ErrInvalidArgument, and those of one option ErrInvalidOption.
var (
	ErrInvalidArgument = errors.New("invalid argument")
	ErrInvalidOption   = errors.New("invalid option")

	ErrInvalidName    error = &kind{"invalid name", ErrInvalidArgument}
	ErrInvalidPermits error = &kind{"invalid number of permits", ErrInvalidArgument}
	ErrTooManyNames   error = &kind{"too many names for one transaction", ErrInvalidArgument}
	ErrNilClient      error = &kind{"nil etcd client", ErrInvalidArgument}
	ErrInvalidTTL     error = &kind{"invalid TTL", ErrInvalidOption}

	ErrNestedName     = errors.New("nested names")
	ErrLeaseNotFound  = errors.New("lease not found in etcd")
	ErrLeaseFileInUse = errors.New("lease file in use by another process")
)

// kind is an error that matches a more general one.
type kind struct {
	text    string
	general error
}

func (e *kind) Error() string { return e.text }
func (e *kind) Unwrap() error { return e.general }

// Lost returns the error of what was lost for a reason: it matches ErrLost and the reason.
func Lost(reason error) error { return &lostError{reason} }

type lostError struct{ reason error }

func (e *lostError) Error() string   { return "lost: " + e.reason.Error() }
func (e *lostError) Unwrap() []error { return []error{ErrLost, e.reason} }

// SessionEnded returns the error of the end of a session by which everything under the session is
// lost: it matches ErrSessionClosed, ErrLost and the reason.
func SessionEnded(reason error) error { return fmt.Errorf("%w: %w", ErrSessionClosed, Lost(reason)) }

// OfContext returns the cause of the end of a context. The error always matches context.Canceled or
// context.DeadlineExceeded as well.
func OfContext(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// NotConfirmed is the error of a release after which the key may stand, because of a cause. By
// some causes the key is known to be gone, and perhaps since before the release: such a cause is a
// loss.
func NotConfirmed(cause error) error {
	for _, gone := range []error{ErrEvicted, ErrRevoked, ErrRolledBack} {
		if errors.Is(cause, gone) {
			return cause
		}
	}
	return fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
}
