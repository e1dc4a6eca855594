// Package clock tells the time by which leases are counted.
package clock

import (
	"sync"
	"time"
)

// start keeps the figures small and gives both clocks one origin.
var start = time.Now()

// faster is the clock where the operating system offers none that is known to go on
// during sleep. Since each reading to the next it moves by what the monotonic or the
// wall clock has moved, whichever is more: the one may stand still while the machine
// sleeps, the other may be set. Where it is wrong it is ahead, and ends a hold too
// early. Only if the wall clock is set back while the machine sleeps does it lose that
// sleep.
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
