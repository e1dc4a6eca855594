//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a command. This system has none.
type Process struct{}

// Signals are the signals that are passed to the command.
var Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// Now is the wall clock.
func Now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// Prepare returns an error, because this system has no process groups with which a command and its
// children can be ended.
func Prepare([]string) (*Process, error) {
	return nil, errors.New("a command cannot be run under a lock on " + runtime.GOOS +
		", because its child processes could outlive the lock: use Linux, macOS, BSD or WSL")
}

// Go runs the command.
func (*Process) Go([]string, time.Duration) error { return nil }

// RunGuard does nothing here.
func RunGuard() {}

// RunStarter does nothing here.
func RunStarter([]string) {}

// Pid is the number of the process.
func (*Process) Pid() int { return 0 }

// Exited is closed when the command has ended.
func (*Process) Exited() <-chan struct{} { return nil }

// Extend moves the time at which the guard ends the command.
func (*Process) Extend(time.Duration) {}

// Signal sends a signal to the command.
func (*Process) Signal(syscall.Signal) {}

// End ends the command.
func (*Process) End() int { return 0 }

// Interrupted reports whether the command died of SIGINT.
func (*Process) Interrupted() bool { return false }

// CombinedOutput runs a process to its end, and returns its output and errors.
func CombinedOutput(cmd *exec.Cmd) ([]byte, error) { return cmd.CombinedOutput() }

// ReapOrphans does nothing here.
func ReapOrphans() (stop func()) { return func() {} }

// StopJob does nothing here.
func StopJob() bool { return false }

// DieOfInterrupt does nothing here.
func DieOfInterrupt() {}

// SignalOf finds a signal by its name.
func SignalOf(string) (syscall.Signal, bool) { return 0, false }

// ErrNotFound reports whether an error of Prepare means that the command does not exist.
func ErrNotFound(error) bool { return false }
