//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signals are the signals that are passed to the command.
var Signals = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT,
}

// SignalOf finds a signal by its name, with or without SIG at its beginning.
func SignalOf(name string) (syscall.Signal, bool) {
	for _, n := range []string{name, "SIG" + name} {
		if sig := unix.SignalNum(n); sig != 0 {
			return sig, true
		}
	}
	return 0, false
}

// terminal is the controlling terminal of this process.
type terminal struct{ fd int }

// onTerminal calls f with the terminal, if there is one.
func onTerminal(f func(terminal)) {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	f(terminal{fd})
}

// foreground is the process group in the foreground; 0 if it is not known.
func (t terminal) foreground() int {
	pgid, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return pgid
}

// give makes a process group the foreground.
func (t terminal) give(pgid int) {
	withoutStop(func() { _ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgid) })
}

// alone reports whether this process seems to be the only one of its job. The shell has then created
// the job for this process, which neither reads from a pipe nor writes to one.
func alone() bool {
	if unix.Getpgrp() != os.Getpid() {
		return false
	}
	for fd := range 2 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			return false
		}
	}
	return true
}
