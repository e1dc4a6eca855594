package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// instant is a CLOCK_MONOTONIC time in nanoseconds: all processes of a machine share
// that clock, so that their reports can be compared.
type instant int64

func now() instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // no system without it runs this program
	}
	return instant(ts.Nano())
}

func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }
func (t instant) add(d time.Duration) instant { return t + instant(d) }
