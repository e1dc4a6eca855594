// Package backoff spreads repeated tries over time.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Process is the seed of this process, for pauses that all processes of a fleet begin at one instant. It is
// random, because a process ID is often the same in each container. Package simetcd sets it, so that a
// simulated run is the same in another process.
var Process = rand.Int64()

// Delay returns the pause before try n, counted from 0. The pause is first, doubled
// with each try up to most, times a share between one half and one. The share
// depends on seed and n only: a fleet that lost etcd at one instant returns spread
// out, and a simulated run is the same each time.
func Delay(n int, first, most time.Duration, seed int64) time.Duration {
	full := first
	for range n {
		if full >= most {
			break
		}
		full *= 2
	}
	full = min(full, most)
	share := float64(mix(uint64(seed)+uint64(n))>>11) / (1 << 53)
	return full/2 + time.Duration(share*float64(full/2))
}

// mix is the output function of SplitMix64: every bit of its argument moves every
// bit of the result.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
