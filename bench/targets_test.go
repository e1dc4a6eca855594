package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTargetIsMetOnItsOwnSideOfTheBound(t *testing.T) {
	value := func(v float64) measure { return func(*book) (float64, bool) { return v, true } }
	for _, c := range []struct {
		v       float64
		atLeast bool
		met     bool
	}{{1.5, false, true}, {1.51, false, false}, {1.5, true, true}, {1.49, true, false}} {
		o := target{what: "x", measure: value(c.v), bound: 1.5, atLeast: c.atLeast}.outcome(newBook())
		require.True(t, o.Known)
		require.Equal(t, c.met, o.Met, "%+v", c)
	}
}

func TestTargetThatWasNotMeasuredIsNotMet(t *testing.T) {
	for _, o := range outcomes(newBook()) {
		require.False(t, o.Known, o.Target)
		require.False(t, o.Met, o.Target)
	}
}

func TestTargetsAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, target := range targets() {
		require.False(t, seen[target.what], target.what)
		seen[target.what] = true
	}
}

func TestNeverSlowerTakesTheWorstOfAllCrowdsAndClusters(t *testing.T) {
	b := newBook()
	for nodes, rate := range map[int]float64{1: 300, 3: 90} {
		at := spot{Suite: "processes", Nodes: nodes, Case: "2 processes", Contestant: theLibrary, Metric: perSecond}
		b.add(at, "1/s", high, rate)
		at.Contestant = theMutex
		b.add(at, "1/s", high, 100)
	}
	worst, known := neverSlower(b)
	require.True(t, known)
	require.InDelta(t, 0.9, worst, 1e-9)
}
