//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// isStop reports whether a signal is the one that ^Z sends.
func isStop(sig syscall.Signal) bool { return sig == syscall.SIGTSTP }

// inOwnGroup gives a command a process group, which is killed when the context of the command ends.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
