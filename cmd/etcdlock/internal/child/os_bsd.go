//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time by the wall clock, as there is no other one that all processes share and
// that goes on while the machine sleeps.
func Now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// dieWithParent does nothing: only Linux ends a command with its parent. The guard does.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitExit waits until a child has ended, and leaves it to be reaped.
func awaitExit(pid int) {
	queue, err := unix.Kqueue()
	for ; err != nil; queue, err = unix.Kqueue() {
		time.Sleep(100 * time.Millisecond) // too many files are open
	}
	defer unix.Close(queue)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit.Fflags = unix.NOTE_EXIT
	for {
		n, err := unix.Kevent(queue, []unix.Kevent_t{exit}, make([]unix.Kevent_t, 1), nil)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return // ESRCH: it had ended before
		}
	}
}

// othersIn tells whether a process group has living members.
func othersIn(pgid int) bool { return syscall.Kill(-pgid, 0) == nil }
