package child

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine was started, including sleep. It is the same for all processes of
// the machine.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // every kernel that Go runs on has it
	}
	return time.Duration(ts.Nano())
}

// dieWithParent has the kernel kill the command when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// seesStops is true, because awaitChange returns when the child was stopped.
const seesStops = true

// childInfo is the kernel's siginfo after a change of a child's state, with the fields that
// unix.Siginfo omits.
type childInfo struct {
	_      [3 + unsafe.Sizeof(uintptr(0))/4 - 1]int32
	pid    int32
	uid    uint32
	status int32
	_      [128]byte
}

// code is the change of the child's state.
func (i *childInfo) code() int32 { return (*unix.Siginfo)(unsafe.Pointer(i)).Code }

// The codes of a child, as siginfo_t has them.
const (
	codeStopped   = 5
	codeContinued = 6
)

func waitid(kind, pid int, info *childInfo, options int) error {
	return unix.Waitid(kind, pid, (*unix.Siginfo)(unsafe.Pointer(info)), options, nil)
}

// awaitChange waits until a child has ended, and leaves it to be reaped, or until it was stopped or
// continued.
func awaitChange(pid int) change {
	for {
		var info childInfo
		const all = unix.WEXITED | unix.WSTOPPED | unix.WCONTINUED
		if err := waitid(unix.P_PID, pid, &info, all|unix.WNOWAIT); errors.Is(err, unix.EINTR) {
			continue
		}
		// The stop or continuation is consumed, so that it is not reported again. If the child has
		// ended meanwhile, there is none to consume.
		took := func(option int) bool {
			var taken childInfo
			return waitid(unix.P_PID, pid, &taken, option|unix.WNOHANG) == nil && taken.pid != 0
		}
		switch info.code() {
		case codeStopped:
			if took(unix.WSTOPPED) {
				return change{stopped: syscall.Signal(info.status)}
			}
		case codeContinued:
			if took(unix.WCONTINUED) {
				return change{continued: true}
			}
		default:
			return change{ended: true}
		}
	}
}

// withoutStop calls f with SIGTTOU blocked, so that a use of the terminal from the background does
// not stop this process. SIGTTOU is not ignored, because the next command would inherit that.
func withoutStop(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	const bits = 8 * int(unsafe.Sizeof(block.Val[0]))
	block.Val[(int(unix.SIGTTOU)-1)/bits] |= 1 << ((int(unix.SIGTTOU) - 1) % bits)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	}
	f()
}

// process is a process as /proc describes it.
type process struct{ state, parent, group string }

// lookUp reads a process from /proc. It returns false if there is no such process.
func lookUp(pid string) (process, bool) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return process{}, false
	}
	// pid (name) state ppid pgrp ...; the name may contain any character
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 3 {
		return process{}, false
	}
	return process{state: fields[0], parent: fields[1], group: fields[2]}, true
}

// parentOf is the parent of a process; 0 if there is none.
func parentOf(pid int) int {
	p, _ := lookUp(strconv.Itoa(pid))
	parent, _ := strconv.Atoi(p.parent)
	return parent
}

// uninterruptible reports whether a process is in a wait that only SIGKILL ends.
func uninterruptible(pid int) bool {
	p, ok := lookUp(strconv.Itoa(pid))
	return ok && p.state == "D"
}

// anyStopped reports whether a member of a process group is stopped.
func anyStopped(pgid int) bool { return anyIn(pgid, func(state string) bool { return state == "T" }) }

// othersIn reports whether a process group has living members.
func othersIn(pgid int) bool {
	return anyIn(pgid, func(state string) bool { return state != "Z" && state != "X" })
}

// anyIn reports whether a process group has a member in one of the states.
func anyIn(pgid int, such func(state string) bool) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	group := strconv.Itoa(pgid)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if p, ok := lookUp(e.Name()); ok && p.group == group && such(p.state) {
			return true
		}
	}
	return false
}
