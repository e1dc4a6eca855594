package main

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of fifteen values the interval is from the fourth to the twelfth, as tables of the sign test
// have it.
func TestTheIntervalIsThatOfTheSignTest(t *testing.T) {
	var values []float64
	for i := range 15 {
		values = append(values, float64(i+1))
	}
	rand.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	low, high := interval(values)
	require.Equal(t, []float64{4, 8, 12}, []float64{low, median(values), high})
	low, high = interval(values[:6])
	require.Less(t, low, high)
}

// Whatever the distribution is, the median of the population lies inside in 95 of 100 cases.
func TestTheIntervalCoversTheMedian(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 15, 20, 31} {
		covered := 0
		const runs = 4000
		for range runs {
			values := make([]float64, n)
			for i := range values {
				values[i] = rnd.ExpFloat64() // its median is ln 2
			}
			if low, high := interval(values); low <= 0.6931 && 0.6931 <= high {
				covered++
			}
		}
		require.GreaterOrEqual(t, float64(covered)/runs, 0.94, "%d values", n)
	}
}
