//go:build !unix

package main

import (
	"os"
	"syscall"
)

// stopsProcesses tells whether this system can suspend and resume a process.
// Where it cannot, the demo says so and ends.
const stopsProcesses = false

var terminate, suspend, resume = os.Kill, os.Kill, os.Kill

func ownGroup() *syscall.SysProcAttr { return nil }
