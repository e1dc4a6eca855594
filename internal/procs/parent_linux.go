package procs

import "syscall"

// endWithParent has the kernel end the child when this program dies without being
// able to do anything about it.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
