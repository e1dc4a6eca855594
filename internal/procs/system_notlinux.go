//go:build !linux

package procs

import "syscall"

// endWithParent does nothing: only Linux kills a child with its parent.
func endWithParent(*syscall.SysProcAttr) {}
