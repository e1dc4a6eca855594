//go:build !unix

package procs

import "syscall"

// ownGroup does nothing: there are no process groups.
func ownGroup(*syscall.SysProcAttr) {}

// Continue does nothing: processes are not stopped here.
func (p *Child) Continue() {}

// killGroup kills the process alone. What it has started runs on.
func killGroup(p *Child) { _ = p.cmd.Process.Kill() }
