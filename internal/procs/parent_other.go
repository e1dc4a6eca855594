//go:build !linux

package procs

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
