//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signals are those that are for the command.
var Signals = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGCONT,
}

// inForeground tells whether standard input is a terminal in whose foreground this process
// is.
func inForeground() bool {
	pgid, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && pgid == unix.Getpgrp()
}

// SignalOf finds a signal by its name, with SIG in front or without.
func SignalOf(name string) (syscall.Signal, bool) {
	for _, n := range []string{name, "SIG" + name} {
		if sig := unix.SignalNum(n); sig != 0 {
			return sig, true
		}
	}
	return 0, false
}

// setForeground makes a process group the foreground of the terminal.
func setForeground(pgid int) {
	signal.Ignore(syscall.SIGTTOU) // from the background it would stop us
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(int(os.Stdin.Fd()), unix.TIOCSPGRP, pgid)
}
