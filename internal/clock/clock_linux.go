package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine was started, time asleep included:
// CLOCK_BOOTTIME. Go's own monotonic clock is CLOCK_MONOTONIC, which stops while
// the machine sleeps, but a lease in etcd does not.
//
// Asking the kernel takes six times as long as asking Go, which does so without a
// system call, and is wanted at every lock and unlock. So Now goes on from the last
// answer by Go's clock, for as long as wall clock and monotonic clock keep step: a
// sleep moves the one and not the other.
func Now() time.Duration {
	now := time.Now()
	monotonic := now.Sub(start)
	ahead := now.Round(0).Sub(start.Round(0)) - monotonic
	if l := last.Load(); l != nil && (ahead-l.ahead).Abs() < step {
		return monotonic + l.asleep
	}
	return ask()
}

// step is by how much the wall clock may run off before the kernel is asked again.
// Adjustments by NTP are slower than this in any hour; to set it costs a question.
const step = time.Millisecond

// answer is what the kernel said.
type answer struct {
	asleep time.Duration // of CLOCK_BOOTTIME, the part that is not in the monotonic clock
	ahead  time.Duration // of the wall clock before the monotonic clock, then
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
			continue // we were held up in between, and do not know where
		}
		boot, monotonic := time.Duration(ts.Nano()), before.Sub(start)
		last.Store(&answer{
			asleep: boot - monotonic,
			ahead:  before.Round(0).Sub(start.Round(0)) - monotonic,
		})
		return boot
	}
}
