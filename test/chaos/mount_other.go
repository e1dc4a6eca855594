//go:build !linux

package main

import "syscall"

func namespace(*syscall.SysProcAttr) {}

func smallDisk(*scene) (*disks, error) { return nil, errNoMount }
func slowDisks(*scene) (*disks, error) { return nil, errNoMount }
