//go:build !linux

package dbserver

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
