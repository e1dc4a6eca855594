package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine was started, time asleep included:
// CLOCK_BOOTTIME. Go's own monotonic clock is CLOCK_MONOTONIC, which stops while
// the machine sleeps, but a lease in etcd does not.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return faster() // a kernel older than 2.6.39, or a sandbox that forbids the call
	}
	return time.Duration(ts.Nano())
}
