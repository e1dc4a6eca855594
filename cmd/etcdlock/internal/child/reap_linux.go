package child

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReapOrphans reaps orphaned processes until stop is called, if the kernel gives them to this process:
// process 1 of a container, or a subreaper. It does not reap the children that this process waits for.
func ReapOrphans() (stop func()) {
	if os.Getpid() != 1 && !subreaper() {
		return func() {}
	}
	ended, done, stopped := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		defer close(stopped)
		for {
			var again <-chan time.Time
			if !own.reapOthers() {
				again = time.After(50 * time.Millisecond)
			}
			select {
			case <-ended:
			case <-again:
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(ended)
		close(done)
		<-stopped
	}
}

func subreaper() bool {
	var is int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&is)), 0, 0, 0)
	return err == nil && is != 0
}

// reapOthers reaps ended children that this process does not wait for. The kernel reports only the
// first ended child. reapOthers returns false if this process waits for that child, because others
// may be behind it.
func (p *processes) reapOthers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var info childInfo
		err := waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || info.pid == 0:
			return true
		case p.pids[int(info.pid)]:
			return false
		}
		_, _ = unix.Wait4(int(info.pid), nil, unix.WNOHANG, nil)
	}
}
