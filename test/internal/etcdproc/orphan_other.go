//go:build !linux

package etcdproc

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
