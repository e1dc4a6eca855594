package lockmgr

import (
	"errors"

	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// The errors below have what the root needs to make an error of the API.

// WaitError is the error of a wait when its context has ended after a deadline.
type WaitError struct {
	Ended  error // the error of the context
	Locked *local.LockedError
}

func (e *WaitError) Error() string { return e.Ended.Error() }
func (e *WaitError) Unwrap() error { return e.Ended }

// CycleError is the error of a call that closed a cycle of waits.
type CycleError struct{ Cycle deadlock.Cycle }

func (e *CycleError) Error() string { return lockerr.ErrDeadlock.Error() }

var (
	// ErrNotHanded is why a successor was not named: the hold ended by a loss before.
	ErrNotHanded = errors.New("the hold ended before it was handed over")
	// ErrHeldWithin is why a hold goes on that was to be handed over: its caller has another one.
	ErrHeldWithin = errors.New("another hold under the context of this one has not ended")
)
