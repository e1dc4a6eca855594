package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// Exit codes, beside those of the command that is run.
const (
	exitFailure     = 1   // anything else that went wrong
	exitUsage       = 2   // wrong flags or arguments
	exitBusy        = 100 // --try, and it is taken
	exitTimedOut    = 101 // --timeout, and it was not granted in time
	exitLost        = 102 // the hold was lost, and the command was ended for it
	exitUnreachable = 103 // etcd does not answer, or refuses
	exitNotRun      = 126 // the command cannot be run
	exitNotFound    = 127 // the command is not there
)

// exitCodes tells users of those that a command has. waits says that it has --try and --timeout.
func exitCodes(waits bool) string {
	text := `Exit codes: that of the command, or 128 and the signal's number if it died of a signal; else
    1  something else went wrong
    2  wrong flags or arguments, also a name that lies inside another one in use
`
	if waits {
		text += `  100  --try, and it is taken
  101  --timeout, and it was not granted in time
`
	}
	return text + `  102  the hold was lost, and the command was ended for it
  103  etcd does not answer, or refuses
  126  the command cannot be run
  127  the command is not there
  128+ the signal that ended the wait in line`
}

// exitError is an exit code of which everything has been said that there is to say.
type exitError int

func (c exitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

// usageError is the caller's mistake.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// notRunError is a command that could not be started.
type notRunError struct{ error }

// timedOutError is a wait in line that took longer than it may.
type timedOutError struct{ error }

// unreachable is an etcd that does not answer.
type unreachable struct{ error }

func (e coded) Unwrap() error         { return e.error }
func (e usageError) Unwrap() error    { return e.error }
func (e notRunError) Unwrap() error   { return e.error }
func (e timedOutError) Unwrap() error { return e.error }
func (e unreachable) Unwrap() error   { return e.error }

// codeOf is the exit code for an error.
func codeOf(err error) int {
	var own coded
	var start notRunError
	var sig signalled
	switch {
	case errors.As(err, &own):
		return own.code
	case isA[usageError](err), isAny(err, etcdlock.ErrInvalidArgument, etcdlock.ErrInvalidOption,
		etcdlock.ErrNestedName, etcdlock.ErrLimitMismatch):
		return exitUsage
	case errors.As(err, &start) && child.ErrNotFound(err):
		return exitNotFound
	case errors.As(err, &start):
		return exitNotRun
	case errors.As(err, &sig):
		return 128 + int(sig.sig)
	case isA[timedOutError](err):
		return exitTimedOut
	case isA[unreachable](err):
		return exitUnreachable
	case errors.Is(err, etcdlock.ErrLocked):
		return exitBusy
	case isAny(err, etcdlock.ErrLost, etcdlock.ErrExpired):
		return exitLost
	case fromEtcd(err), errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable
	default:
		return exitFailure
	}
}

// isA tells whether an error is, or wraps, one of that type.
func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// fromEtcd tells whether etcd, or the way to it, has said no.
func fromEtcd(err error) bool {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return true
	}
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s) && s.GRPCStatus().Code() != codes.OK
}

// trimName takes the library's name off an error; it is the program's too.
func trimName(err error) string { return strings.TrimPrefix(err.Error(), "etcdlock: ") }
