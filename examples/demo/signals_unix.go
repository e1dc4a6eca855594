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

// ownGroup puts a process into a process group of its own. So Ctrl-C reaches
// the parent alone, which then ends the others; and should the parent be killed
// while one of them is suspended, the system wakes and ends that one (POSIX:
// stopped members of an orphaned group get SIGHUP and SIGCONT).
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
