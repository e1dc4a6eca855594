package local

import (
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// LockedError is the error of a call that found an entry in its way.
type LockedError struct {
	By  queue.Obstacle // what is known of the entry
	Own bool           // true: the entry, or a waiter without one, is of another goroutine of the session
}

func (e *LockedError) Error() string { return lockerr.ErrLocked.Error() }

// lockedHere is the error of a call that found another goroutine of its session: the one that
// holds kv, or one that waits if kv is nil.
func lockedHere(kv *mvccpb.KeyValue) *LockedError {
	return &LockedError{By: queue.Obstacle{KV: kv, Whole: true, Holds: true}, Own: true}
}

var (
	// ErrUnwanted ends a wait that no waiter needs.
	ErrUnwanted = errors.New("no caller waits any more")
	// ErrOutdated ends a wait for the entry to be written again.
	ErrOutdated = errors.New("the entry in etcd is outdated")
	// ErrDrained is the error of calls and waits that a Drain ends: the lease goes to another process.
	ErrDrained = lockerr.SessionEnded(lockerr.ErrOrphaned)
)
