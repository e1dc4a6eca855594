// Package clock tells the time by which leases are counted.
package clock

import (
	"sync"
	"time"
)

// start keeps the numbers small and gives both clocks one origin.
var start = time.Now()

// faster is the clock for systems without a clock that is known to run during sleep.
// From one reading to the next it advances as far as the monotonic clock or the wall
// clock, whichever advanced more: the monotonic clock may stop while the machine sleeps,
// and the wall clock may be set. If faster is wrong it is ahead, and ends a hold too
// early. It misses a sleep only if the wall clock is set back during that sleep.
func faster() time.Duration {
	mu.Lock()
	defer mu.Unlock()
	now := time.Now()
	monotonic := now.Sub(read)
	wall := now.Round(0).Sub(read.Round(0)) // Round(0) strips the monotonic reading
	read = now
	elapsed += max(monotonic, wall, 0)
	return elapsed
}

var (
	mu      sync.Mutex
	read    = start       // the last reading
	elapsed time.Duration // what it said
)
