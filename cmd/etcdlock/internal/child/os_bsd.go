//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"errors"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the wall clock. No other clock is shared by all processes and continues while the machine
// sleeps.
func Now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// dieWithParent does nothing: only Linux ends a command with its parent. The guard does.
func dieWithParent(*syscall.SysProcAttr) {}

// seesStops is false, because this system does not report a stopped command to awaitChange.
const seesStops = false

// uninterruptible is not called, because seesStops is false.
func uninterruptible(int) bool { return false }

// anyStopped is not called either.
func anyStopped(int) bool { return false }

// awaitChange waits until a child has ended, and leaves it to be reaped.
func awaitChange(pid int) change {
	queue, err := unix.Kqueue()
	for ; err != nil; queue, err = unix.Kqueue() {
		time.Sleep(100 * time.Millisecond) // after too many open files
	}
	defer unix.Close(queue)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit.Fflags = unix.NOTE_EXIT
	for {
		n, err := unix.Kevent(queue, []unix.Kevent_t{exit}, make([]unix.Kevent_t, 1), nil)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return change{ended: true} // ESRCH: it had ended before
		}
	}
}

// withoutStop calls f, in which a use of the terminal from the background does not stop this
// process. Commands that are started afterwards inherit that.
func withoutStop(f func()) {
	signal.Ignore(syscall.SIGTTOU)
	f()
}

// parentOf is the parent of a process; 0 if there is none.
func parentOf(pid int) int {
	cmd := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid))
	out, err := CombinedOutput(cmd)
	if err != nil {
		return 0
	}
	parent, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return parent
}

// othersIn reports whether a process group has living members.
func othersIn(pgid int) bool { return syscall.Kill(-pgid, 0) == nil }

// ReapOrphans does nothing, because only process 1 of a Linux container has to reap orphans.
func ReapOrphans() (stop func()) { return func() {} }
