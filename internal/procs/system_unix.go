//go:build unix

package procs

import "syscall"

// ownGroup puts a process that is to be started into a process group of its own.
func ownGroup(attr *syscall.SysProcAttr) { attr.Setpgid = true }

// Continue lets a process run on that was stopped.
func (p *Child) Continue() { _ = p.Signal(syscall.SIGCONT) }

// killGroup kills the process group of a process.
func killGroup(p *Child) { _ = syscall.Kill(-p.Pid(), syscall.SIGKILL) }
