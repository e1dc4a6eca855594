//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor after standard input, output and error.
const firstFD = 3

// inherited tells whether a descriptor came from the caller of this process: everything that the
// process opens itself is closed on exec, and what was to be closed on exec did not come here.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// layout is the list of a new process's descriptors: standard input, output and error, those of
// the caller under the numbers that they have, and extra ones under numbers that the caller has
// not used. It returns these numbers too. Descriptors of the caller beyond the list pass to the
// process by themselves.
func layout(extra ...uintptr) (files []uintptr, numbers []int) {
	files = []uintptr{0, 1, 2}
	for fd := firstFD; len(numbers) < len(extra); fd++ {
		if inherited(fd) {
			files = append(files, uintptr(fd))
			continue
		}
		files = append(files, extra[len(numbers)])
		numbers = append(numbers, fd)
	}
	return files, numbers
}

// closeInherited closes what came from the caller, but for standard input, output and error.
func closeInherited() {
	dir, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, e := range dir {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= firstFD && inherited(fd) {
			_ = unix.Close(fd)
		}
	}
}
