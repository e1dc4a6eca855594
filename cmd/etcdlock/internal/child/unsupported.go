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

// Process is a command; there is none on this system.
type Process struct{}

// Signals are those that are for the command.
var Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// Now is the time by the wall clock.
func Now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// Prepare refuses: there are no process groups here by which a command and all that it has
// started can be ended.
func Prepare([]string) (*Process, error) {
	return nil, errors.New("commands cannot be run under a lock on " + runtime.GOOS +
		", as they could not be ended with all that they have started; use Linux, macOS, BSD or WSL")
}

// Go lets the command run.
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

// Interrupted tells whether the command died of SIGINT.
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

// ErrNotFound tells a command that is not there from one that cannot be started.
func ErrNotFound(error) bool { return false }
