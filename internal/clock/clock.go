// Package clock tells the time by which leases are counted.
package clock

import "time"

// start keeps the figures small and gives both clocks one origin.
var start = time.Now()

// faster is the clock where the operating system offers none that is known to
// go on during sleep: whichever of the monotonic and the wall clock has moved
// further. The monotonic one may stand still while the machine sleeps, the wall
// clock may be set. Taking the further one can only end a hold too early, never
// too late.
func faster() time.Duration {
	now := time.Now()
	monotonic := now.Sub(start)
	wall := now.Round(0).Sub(start.Round(0)) // Round(0) strips the monotonic reading
	return max(monotonic, wall)
}
