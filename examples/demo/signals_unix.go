//go:build unix

package main

import (
	"os"
	"syscall"
)

// stopsProcesses tells whether this system can suspend and resume a process.
const stopsProcesses = true

var (
	terminate os.Signal = syscall.SIGTERM
	suspend   os.Signal = syscall.SIGSTOP
	resume    os.Signal = syscall.SIGCONT
)

// ownGroup puts a process into a new process group. Ctrl-C then reaches only
// the parent, which ends the others. If the parent is killed while a child is
// stopped, the system continues and ends the child: in POSIX, stopped members
// of an orphaned group get SIGHUP and SIGCONT.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
