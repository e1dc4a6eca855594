package concurrency

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// The errors are etcd's own values. If etcd's package returns one of them, this package also returns
// the bare value, for code that compares with ==.
var (
	// ErrLocked is returned by TryLock when another session holds or waits. Without [WithReentry] it is
	// also returned when this session does.
	ErrLocked = concurrency.ErrLocked
	// ErrSessionExpired is returned by Lock and TryLock when the session has ended, or another client
	// has deleted the key during the wait. The error of Unlock for a lock that was lost with its session
	// matches it.
	ErrSessionExpired = concurrency.ErrSessionExpired
	// ErrLockReleased is returned by Unlock when the mutex is not locked.
	ErrLockReleased = concurrency.ErrLockReleased

	// ErrElectionNotLeader is returned by Proclaim without a leadership. The errors of Campaign and
	// Resign match it when the leadership, or the place in the queue, was lost.
	ErrElectionNotLeader = concurrency.ErrElectionNotLeader
	// ErrElectionNoLeader is returned by Leader when there is no leader.
	ErrElectionNoLeader = concurrency.ErrElectionNoLeader
)

// The causes of the end of a session's context. All of them match ErrSessionExpired.
var (
	errLost     = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrLost)
	errOrphaned = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrOrphaned)
	errClosed   = fmt.Errorf("%w: %w", ErrSessionExpired, etcdlock.ErrSessionClosed)
)

// closedByOwner reports whether Close of the session has released a hold, so that nothing was lost.
func closedByOwner(err error) bool {
	return errors.Is(err, etcdlock.ErrSessionClosed) && !errors.Is(err, etcdlock.ErrLost)
}
