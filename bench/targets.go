package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// target is one line of the table of targets in bench/NOTES.md: a quantity and its bound.
type target struct {
	what    string
	measure measure
	bound   float64
	atLeast bool // else at most
	unit    string
}

// measure finds its value in the book; false when it was not measured.
type measure func(b *book) (float64, bool)

// targets are the targets of the issue, on one node.
func targets() []target {
	ts := []target{
		{what: "control: Mutex's lock + unlock over itself, the noise", measure: ratio(aloneSpot(lockPair, theControl), aloneSpot(lockPair, theMutex)), bound: 1.03},
		{what: "lock + unlock alone, over Mutex", measure: ratio(aloneSpot(lockPair, theLibrary), aloneSpot(lockPair, theMutex)), bound: 1.03},
		{what: "campaign + resign alone, over Mutex's lock + unlock", measure: ratio(aloneSpot(campaignPair, theLibrary), aloneSpot(lockPair, theMutex)), bound: 1.03},
	}
	for _, age := range fullPlan.ages {
		mine, floor := handoverSpot(age, theLibrary), handoverSpot(age, theFloor)
		tail := mine
		tail.Metric = "p99"
		ts = append(ts,
			target{what: fmt.Sprintf("handover to a waiter %v old, p50 over delete-until-event", age), measure: ratio(mine, floor), bound: 1.5},
			target{what: fmt.Sprintf("handover to a waiter %v old, p99 over delete-until-event's p50", age), measure: ratio(tail, floor), bound: 4})
	}
	for i, bound := range []float64{40, 10, 2.5, 1.4} {
		at := crowd{processes: fullPlan.crowds[i], callers: 1}
		ts = append(ts, target{what: at.String() + ", over Mutex", measure: crowdRatio("processes", at, theMutex), bound: bound, atLeast: true})
	}
	for i, bound := range []float64{0.47, 0.48, 0.45, 0.38} {
		at := crowd{processes: fullPlan.crowds[i], callers: 1}
		ts = append(ts, target{what: at.String() + ", of the floor", measure: crowdRatio("processes", at, theFloor), bound: bound, atLeast: true})
	}
	for i, bound := range []float64{0.6, 0.6, 0.5} {
		at := crowd{processes: fullPlan.crowds[i+1], callers: 2}
		ts = append(ts, target{what: at.String() + ", strict turns, of the floor", measure: crowdRatioOf(theStrict, "processes", at, theFloor), bound: bound, atLeast: true})
	}
	for _, at := range storms() {
		ts = append(ts, target{what: "longest pause, " + at.String(), measure: worst(high, spot{"storm", 1, at.String(), theLibrary, longestPause}), bound: 250, unit: " ms"})
	}
	one, four := crowd{processes: 1, callers: 100}, crowd{processes: 4, callers: 25}
	return append(ts,
		target{what: one.String() + ", over Mutex", measure: crowdRatio("goroutines", one, theMutex), bound: 1000, atLeast: true},
		target{what: four.String() + ", over Mutex", measure: crowdRatio("goroutines", four, theMutex), bound: 100, atLeast: true},
		target{what: four.String() + ", the smallest share over the mean", measure: worst(low, spot{"goroutines", 1, four.String(), theLibrary, smallestShare}), bound: 0.25, atLeast: true},
		target{what: "never slower than Mutex, wherever processes contend", measure: neverSlower, bound: 1, atLeast: true},
		target{what: "a pair with the key kept", measure: worst(high, spot{"retention", 1, keptPair, theRetainer, "mean"}), bound: 1, unit: " µs"},
		target{what: "the next stranger, over the plain handover", measure: ratio(spot{"retention", 1, stranger, theRetainer, "p50"}, spot{"retention", 1, plainHandover, theLibrary, "p50"}), bound: 2.2},
		target{what: "handover with 1000 idle entries behind, over none", measure: ratio(growthSpot(1000), growthSpot(0)), bound: 1.2},
		target{what: "handover with 5000 idle entries behind, over none", measure: ratio(growthSpot(5000), growthSpot(0)), bound: 1.2},
		target{what: fmt.Sprintf("in line behind %d, over behind none", fullPlan.queue), measure: ratio(deepSpot(fullPlan.queue), deepSpot(0)), bound: 1.6},
		target{what: "256 callers of one process with a name each, over Mutex", measure: ratio(namesSpot(theLibrary), namesSpot(theMutex)), bound: 3, atLeast: true},
		target{what: "crash until the next holds, beyond the granted TTL", measure: worst(high, spot{"failover", 1, fmt.Sprintf("TTL %v", 2*time.Second), theLibrary, beyondTTL}), bound: 0.6, unit: " s"},
		target{what: "goroutines of " + restSessions, measure: typical(restSpot(restSessions)), bound: 2},
		target{what: "goroutines of " + restLocks, measure: typical(restSpot(restLocks)), bound: 1},
		target{what: "goroutines of " + restWaiters + ", its caller's not counted", measure: typical(restSpot(restWaiters)), bound: 2},
	)
}

func aloneSpot(what, who string) spot { return spot{"alone", 1, what, who, "p50"} }

func handoverSpot(age time.Duration, who string) spot {
	return spot{"handover", 1, fmt.Sprintf("waiter %v old", age), who, "p50"}
}

func deepSpot(n int) spot { return spot{"deep", 1, depthName(n), theLibrary, inLine} }

func growthSpot(n int) spot { return spot{"growth", 1, behindName(n), theLibrary, "p50"} }

func namesSpot(who string) spot {
	return spot{"names", 1, fmt.Sprintf("%d callers, a name each", fullPlan.callers), who, "pairs a second"}
}

func restSpot(what string) spot { return spot{"rest", 1, what, theLibrary, "goroutines"} }

// ratio is the median over the rounds of what was measured at one spot over another.
func ratio(of, over spot) measure {
	return func(b *book) (float64, bool) {
		q := quotients(b.rounds(of), b.rounds(over))
		return median(q), len(q) > 0
	}
}

func crowdRatio(suite string, who crowd, contestant string) measure {
	return crowdRatioOf(theLibrary, suite, who, contestant)
}

func crowdRatioOf(of, suite string, who crowd, contestant string) measure {
	mine := spot{suite, 1, who.String(), of, perSecond}
	over := mine
	over.Contestant = contestant
	return ratio(mine, over)
}

// neverSlower is the worst ratio to Mutex of all contentions, on every cluster.
func neverSlower(b *book) (float64, bool) {
	least := math.Inf(1)
	for _, r := range b.finish() {
		if r.Contestant == theLibrary && r.Metric == perSecond && r.VsMutex != nil {
			least = min(least, r.VsMutex.Median)
		}
	}
	return least, !math.IsInf(least, 1)
}

// worst is the worst round: the lowest or the highest.
func worst(end string, at spot) measure {
	return func(b *book) (float64, bool) {
		rounds := b.rounds(at)
		switch {
		case len(rounds) == 0:
			return 0, false
		case end == low:
			return slices.Min(rounds), true
		}
		return slices.Max(rounds), true
	}
}

func typical(at spot) measure {
	return func(b *book) (float64, bool) {
		rounds := b.rounds(at)
		return median(rounds), len(rounds) > 0
	}
}

// outcome is a target with what was measured.
type outcome struct {
	Target   string  `json:"target"`
	Bound    string  `json:"bound"`
	Measured float64 `json:"measured"`
	Known    bool    `json:"known"`
	Met      bool    `json:"met"`
	text     string
}

func (t target) outcome(b *book) outcome {
	sign := "<="
	if t.atLeast {
		sign = ">="
	}
	o := outcome{Target: t.what, Bound: fmt.Sprintf("%s %v%s", sign, t.bound, t.unit)}
	v, known := t.measure(b)
	if !known {
		o.text = "not measured"
		return o
	}
	o.Known, o.Measured = true, v
	o.Met = v <= t.bound
	if t.atLeast {
		o.Met = v >= t.bound
	}
	o.text = number(v) + t.unit
	return o
}

func outcomes(b *book) []outcome {
	var out []outcome
	for _, t := range targets() {
		out = append(out, t.outcome(b))
	}
	return out
}
