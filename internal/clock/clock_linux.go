package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns the time since the machine was started, including sleep: CLOCK_BOOTTIME.
// Go's own monotonic clock is CLOCK_MONOTONIC, which stops while the machine sleeps. A
// lease in etcd does not stop.
//
// Every lock and unlock reads the clock, and a system call takes six times as long as
// Go's clock. So Now extrapolates the kernel's last answer by Go's clock, as long as
// the wall clock and the monotonic clock advance equally. A sleep advances only the
// wall clock.
func Now() time.Duration {
	now := time.Now()
	monotonic := now.Sub(start)
	ahead := now.Round(0).Sub(start.Round(0)) - monotonic
	if l := last.Load(); l != nil && (ahead-l.ahead).Abs() < step {
		return monotonic + l.asleep
	}
	return ask()
}

// step is how far the wall clock may drift from the monotonic clock before the kernel
// is asked again. NTP adjusts the wall clock by less than this in an hour. Setting the
// wall clock costs one system call.
const step = time.Millisecond

// answer is an answer of the kernel.
type answer struct {
	asleep time.Duration // of CLOCK_BOOTTIME, the part that is not in the monotonic clock
	ahead  time.Duration // of the wall clock before the monotonic clock, at that time
}

var last atomic.Pointer[answer]

// ask asks the kernel.
func ask() time.Duration {
	var ts unix.Timespec
	for {
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			return faster() // a kernel older than 2.6.39, or a sandbox that forbids the call
		}
		if time.Since(before) > step {
			continue // the goroutine was preempted between two readings
		}
		boot, monotonic := time.Duration(ts.Nano()), before.Sub(start)
		last.Store(&answer{
			asleep: boot - monotonic,
			ahead:  before.Round(0).Sub(start.Round(0)) - monotonic,
		})
		return boot
	}
}
