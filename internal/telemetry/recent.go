package telemetry

import (
	"sync"
	"time"
)

// Recent has the lowest and the highest of some durations in the last minute, or in up to two. Reading
// takes nothing away, so that several servers can scrape a process.
type Recent struct {
	mu    sync.Mutex // guards the fields below
	began time.Time  // the present minute
	now   extremes   // of the present minute
	last  extremes   // of the minute before
}

// extremes are the lowest and the highest of some durations.
type extremes struct {
	low, high time.Duration
	set       bool // false: there was none
}

// with adds a duration.
func (e extremes) with(d time.Duration) extremes {
	if !e.set {
		return extremes{d, d, true}
	}
	return extremes{min(e.low, d), max(e.high, d), true}
}

// Add adds a duration. One below 0 counts as 0.
func (r *Recent) Add(d time.Duration, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at)
	r.now = r.now.with(max(d, 0))
}

// Read returns the lowest and the highest duration. ok is false if there was none.
func (r *Recent) Read(at time.Time) (low, high time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at)
	all := r.now
	if r.last.set {
		all = all.with(r.last.low).with(r.last.high)
	}
	return all.low, all.high, all.set
}

// turn begins another minute when one is over.
func (r *Recent) turn(at time.Time) {
	switch age := at.Sub(r.began); {
	case age < time.Minute:
	case age < 2*time.Minute:
		r.began, r.now, r.last = r.began.Add(time.Minute), extremes{}, r.now
	default:
		r.began, r.now, r.last = at, extremes{}, extremes{}
	}
}
