package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuantileInterpolatesAndLeavesTheOrderAlone(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.5, 2.5}, {1, 4}, {0.25, 1.75}} {
		require.InDelta(t, c.want, quantile(values, c.q), 1e-9)
	}
	require.Equal(t, []float64{4, 1, 3, 2}, values)
	require.InDelta(t, 7, quantile([]float64{7}, 0.99), 0)
	require.True(t, math.IsNaN(median(nil)))
}

func TestQuotientsAreOfTheSameRound(t *testing.T) {
	require.Equal(t, []float64{2, 3}, quotients([]float64{2, 30, 8}, []float64{1, 10}))
	require.Empty(t, quotients([]float64{1}, []float64{0}))
}

func TestBookComparesEachRowWithMutexAndFloor(t *testing.T) {
	b := newBook()
	at := func(contestant string) spot {
		return spot{Suite: "s", Nodes: 1, Case: "c", Contestant: contestant, Metric: "p50"}
	}
	for round := range 3 {
		disturbed := float64(1 + 9*(round%2)) // the second round is ten times as slow
		b.add(at(theFloor), "µs", low, 100*disturbed)
		b.add(at(theMutex), "µs", low, 200*disturbed)
		b.add(at(theLibrary), "µs", low, 150*disturbed)
	}
	rows := b.finish()
	require.Len(t, rows, 3)
	library := rows[2]
	require.Equal(t, theLibrary, library.Contestant)
	require.Equal(t, summary{150, 150, 1500}, library.summary)
	require.Equal(t, &summary{0.75, 0.75, 0.75}, library.VsMutex)
	require.Equal(t, &summary{1.5, 1.5, 1.5}, library.VsFloor)
	require.Nil(t, rows[0].VsFloor, "nothing is compared with itself")
	require.NotNil(t, rows[0].VsMutex)
}

// A row that is measured twice in one round stays two rounds; one that was not
// measured is no row.
func TestBookKnowsWhatWasNotMeasured(t *testing.T) {
	b := newBook()
	require.Nil(t, b.rounds(spot{Suite: "none"}))
	b.add(spot{Suite: "s"}, "s", low, 1)
	require.Equal(t, []float64{1}, b.rounds(spot{Suite: "s"}))
	require.Nil(t, b.finish()[0].VsMutex)
}
