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

// Exit codes, besides those of the child command.
const (
	exitFailure     = 1   // another failure
	exitUsage       = 2   // wrong flags or arguments
	exitBusy        = 100 // --try, and the lock is taken
	exitTimedOut    = 101 // --timeout, and the lock was not acquired in time
	exitLost        = 102 // the hold was lost, and the command was ended
	exitUnreachable = 103 // etcd does not answer, or refuses
	exitNotHonoured = 104 // the leader does not honour requests to resign
	exitOverran     = 105 // the command ran for longer than --max-run, and was ended
	exitNotRun      = 126 // the command cannot be run
	exitNotFound    = 127 // the command does not exist
)

// exitCodes is the part of a help text that lists exit codes. waits is true for a command that has
// --try, --timeout and --max-run.
func exitCodes(waits bool) string {
	text := `The exit code is that of the command, or 128 plus the number of the signal that ended it.
Otherwise it is:
    1  another failure
    2  wrong flags or arguments, or a name inside another name that is in use
`
	if waits {
		text += `  100  with --try: the lock is taken
  101  with --timeout: the lock was not acquired in time
`
	}
	text += `  102  the lock was lost, and the command was ended
  103  etcd does not answer, or refuses
`
	if waits {
		text += `  105  with --max-run: the command ran for too long, and was ended
`
	}
	return text + `  126  the command cannot be run
  127  the command does not exist
  128+ the number of the signal that ended the wait`
}

// exitError is an exit code after its reason was printed.
type exitError int

func (c exitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// coded is an error with its exit code.
type coded struct {
	error
	code int
}

// usageError is an error of flags or arguments.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// notRunError is a command that could not be started.
type notRunError struct{ error }

// timedOutError is a wait that was not granted within --timeout.
type timedOutError struct{ error }

// unreachable is the error of an etcd that does not answer.
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

// isA reports whether an error is of type E, or wraps one.
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

// leaseLost is the error of a command that holds nothing, and whose request goes with its lease. A leader or
// holder that has heard of the request may release nevertheless.
func leaseLost(err error) error {
	if !errors.Is(err, etcdlock.ErrLost) {
		return err
	}
	return unreachable{fmt.Errorf("%w: the request is withdrawn, unless it was heard before", err)}
}

// fromEtcd reports whether an error came from etcd or from the connection to it.
func fromEtcd(err error) bool {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return true
	}
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s) && s.GRPCStatus().Code() != codes.OK
}

// trimName is the text of an error without the library's name, which is also the program's.
func trimName(err error) string { return strings.TrimPrefix(err.Error(), "etcdlock: ") }
