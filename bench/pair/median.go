package main

import (
	"math"
	"slices"
)

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// interval covers the median with a probability of at least 95 %, for any distribution of the values.
// The probability that the median is outside of two order statistics is that of a number of heads
// among n fair coins. It needs six values.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	skip, tail := 0, 0.0
	for k := 0; k < n/2; k++ {
		// The probability of exactly k heads.
		lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
		tail += math.Exp(lg(n) - lg(k) - lg(n-k) - float64(n)*math.Ln2)
		if 2*tail > 0.05 {
			break
		}
		skip = k + 1
	}
	skip = max(skip, 1)
	return sorted[skip-1], sorted[n-skip]
}
