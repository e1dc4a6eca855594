package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// Exit codes, beside those of the command that is run: those are passed on, 128 and the
// signal's number for one that died of a signal, as shells have it.
const (
	exitFailure     = 1   // anything else that went wrong
	exitUsage       = 2   // wrong flags or arguments
	exitBusy        = 100 // --try, and it is taken
	exitTimedOut    = 101 // --timeout, and it was not granted in time
	exitLost        = 102 // the lock or the leadership was lost, and the command was ended for it
	exitUnreachable = 103 // etcd does not answer, or refuses
	exitNotRun      = 126 // the command cannot be run
	exitNotFound    = 127 // the command is not there
)

// exitCode is an exit code of which everything has been said that there is to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is the caller's mistake.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// notRun is a command that could not be started.
type notRun struct{ error }

// unreachable is an etcd that does not answer.
type unreachable struct{ error }

func (e usageError) Unwrap() error  { return e.error }
func (e notRun) Unwrap() error      { return e.error }
func (e unreachable) Unwrap() error { return e.error }

// codeOf is the exit code for an error.
func codeOf(err error) int {
	var usage usageError
	var start notRun
	var away unreachable
	switch {
	case errors.As(err, &usage), errors.Is(err, etcdlock.ErrInvalidName), errors.Is(err, etcdlock.ErrInvalidTTL),
		errors.Is(err, etcdlock.ErrInvalidOption), errors.Is(err, etcdlock.ErrInvalidPermits), errors.Is(err, etcdlock.ErrTooManyNames):
		return exitUsage
	case errors.As(err, &start) && child.ErrNotFound(err):
		return exitNotFound
	case errors.As(err, &start):
		return exitNotRun
	case errors.As(err, &away):
		return exitUnreachable
	case errors.Is(err, etcdlock.ErrLocked):
		return exitBusy
	case errors.Is(err, etcdlock.ErrLost):
		return exitLost
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimedOut
	default:
		return exitFailure
	}
}

// trimName takes the library's name off an error; it is the program's too.
func trimName(err error) string { return strings.TrimPrefix(err.Error(), "etcdlock: ") }
