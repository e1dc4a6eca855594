package dbserver

import "syscall"

// endWithParent ends the server when the test ends without a word.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
