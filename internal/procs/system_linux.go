package procs

import "syscall"

// endWithParent makes the kernel kill the child when this program dies without being able to end
// the child.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
