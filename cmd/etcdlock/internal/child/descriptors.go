//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor after standard input, output and error.
const firstFD = 3

// inherited reports whether a descriptor came from the caller of this process. Descriptors that this
// process opens are closed on exec. A descriptor of the caller that is closed on exec is not here.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// layout lists the descriptors of a new process, and returns the numbers of the extra ones. The list
// begins with standard input, output and error. The caller's descriptors keep their numbers, and the
// extra ones get numbers that the caller has not used. Descriptors of the caller beyond the list are
// inherited without being listed.
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

// closeInherited closes the caller's descriptors, except standard input, output and error.
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
