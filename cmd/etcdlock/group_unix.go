//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// isStop tells whether a signal is that of ^Z.
func isStop(sig syscall.Signal) bool { return sig == syscall.SIGTSTP }

// inOwnGroup has a command's whole process group killed with its context.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
