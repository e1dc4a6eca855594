//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package leasefile

import (
	"errors"
	"os"
	"syscall"
)

// flock locks a file if no other process has locked it. The lock ends with the last descriptor of
// this opening, and so with the process: os.OpenFile lets no child inherit it.
func flock(f *os.File) (free bool, err error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}
