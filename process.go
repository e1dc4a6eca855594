package etcdlock

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// How this process names itself in the values of its keys.

// defaultOwner is the name of the program. The value of a lock also has the host and the process ID.
func defaultOwner() string {
	if exe, err := os.Executable(); err == nil {
		return strings.TrimSuffix(filepath.Base(exe), ".exe")
	}
	return "unknown"
}

var pid = sync.OnceValue(os.Getpid) // each call of Getpid is a system call

var hostname = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
})
