package concurrency

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// The errors are etcd's own values. Where etcd's package returns one of them, this one
// returns the bare value too, for code that compares with ==.
var (
	// ErrLocked is returned by TryLock when somebody else holds or waits: another
	// session, or, without [WithReentry], this one.
	ErrLocked = concurrency.ErrLocked
	// ErrSessionExpired is returned by Lock and TryLock when the session has ended, or
	// the key was deleted by somebody else during the wait; and matched by what Unlock
	// returns for a lock that was lost with its session.
	ErrSessionExpired = concurrency.ErrSessionExpired
	// ErrLockReleased is returned by Unlock when the mutex is not locked.
	ErrLockReleased = concurrency.ErrLockReleased

	// ErrElectionNotLeader is returned by Proclaim without a leadership, and matched by
	// what Campaign and Resign return when the leadership, or the place in line, was lost.
	ErrElectionNotLeader = concurrency.ErrElectionNotLeader
	// ErrElectionNoLeader is returned by Leader when nobody leads.
	ErrElectionNoLeader = concurrency.ErrElectionNoLeader
)

// Why a session's context ended. All of them match ErrSessionExpired.
var (
	errLost     = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrLost)
	errOrphaned = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrOrphaned)
	errClosed   = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrSessionClosed)
)

// closedByOwner tells whether a hold ended by the Close of its session: its owner gave it
// up, and nothing was lost.
func closedByOwner(err error) bool {
	return errors.Is(err, etcdlock.ErrSessionClosed) && !errors.Is(err, etcdlock.ErrLost)
}
