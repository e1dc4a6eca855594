package lockmgr

import (
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// The errors below have what the root needs to make an error of the API.

// LockedError is the error of a call that found an entry in its way.
type LockedError struct {
	By  queue.Obstacle // what is known of the entry
	Own bool           // true: the entry, or a waiter without one, is of another goroutine of the session
}

func (e *LockedError) Error() string { return lockerr.ErrLocked.Error() }

// WaitError is the error of a wait when its context has ended after a deadline.
type WaitError struct {
	Ended  error // the error of the context
	Locked *LockedError
}

func (e *WaitError) Error() string { return e.Ended.Error() }
func (e *WaitError) Unwrap() error { return e.Ended }

// CarriedError is the error of a call that would wait for a hold which its own context carries.
type CarriedError struct {
	Request  *Request         // of the call; nil for an upgrade
	Upgrades *mvccpb.KeyValue // the entry that was to be upgraded
	Holds    []string         // the keys of all holds that the context carries
	For      *mvccpb.KeyValue // the entry of the hold that is in the way
	Hint     string           // what the caller can do
}

func (e *CarriedError) Error() string { return lockerr.ErrDeadlock.Error() + ": " + e.Hint }

// CycleError is the error of a call that closed a cycle of waits.
type CycleError struct{ Cycle deadlock.Cycle }

func (e *CycleError) Error() string { return lockerr.ErrDeadlock.Error() }

// lockedHere is the error of a call that found another goroutine of its session: the one that
// holds kv, or one that waits if kv is nil.
func lockedHere(kv *mvccpb.KeyValue) *LockedError {
	return &LockedError{By: queue.Obstacle{KV: kv, Whole: true, Holds: true}, Own: true}
}

// inTheWay is the error that names the entry ahead of a waiter of the local queue; nil if none is
// known. Called with Manager.mu held.
func (l *localQueue) inTheWay() *LockedError {
	switch {
	case l.held():
		return lockedHere(l.owned.entry.Parts()[0].KV())
	case l.waiting != nil:
		return &LockedError{By: l.waiting.Obstacle()}
	default:
		return nil
	}
}

var (
	// ErrNotHanded is why a successor was not named: the hold ended by a loss before.
	ErrNotHanded = errors.New("the hold ended before it was handed over")
	// ErrHeldWithin is why a hold goes on that was to be handed over: its caller has another one.
	ErrHeldWithin = errors.New("another hold under the context of this one has not ended")

	errUnwanted = errors.New("no caller waits any more")      // ends a wait that no waiter needs
	errOutdated = errors.New("the entry in etcd is outdated") // ends a wait, for the entry to be written again
)
