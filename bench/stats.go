package main

import (
	"math"
	"slices"
	"time"
)

// summary is what is told of some values, one from each round.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{math.NaN(), math.NaN(), math.NaN()}
	}
	return summary{median(values), slices.Min(values), slices.Max(values)}
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile interpolates between the two values next to the place q, 0 to 1, in
// their order. The values stay as they are.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	place := q * float64(len(sorted)-1)
	below := int(place)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (place-float64(below))*(sorted[above]-sorted[below])
}

// quotients divides value by value what was measured in the same round. What
// disturbs the machine for a while disturbs both, so the median of the quotients
// stands firmer than the quotient of the medians. By nothing nothing is divided.
func quotients(values, bases []float64) []float64 {
	var out []float64
	for i := range min(len(values), len(bases)) {
		if bases[i] > 0 {
			out = append(out, values[i]/bases[i])
		}
	}
	return out
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
