//go:build unix && !linux

package child

import (
	"os/signal"
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
	for ; !zombie(pid); time.Sleep(10 * time.Millisecond) {
	}
}

// zombie tells whether a child has ended: a signal can still be sent to it, and its group
// has no member that runs.
func zombie(pid int) bool {
	pgid, err := unix.Getpgid(pid)
	return err != nil || pgid != pid
}

func othersIn(pgid int) bool { return syscall.Kill(-pgid, 0) == nil }

func ignoreTTOU() { signal.Ignore(syscall.SIGTTOU) }
