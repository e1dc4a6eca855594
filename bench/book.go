package main

import (
	"sync"
)

// Every row is better when it is low, or when it is high.
const (
	low  = "lower"
	high = "higher"
)

// spot is what a row is about.
type spot struct {
	Suite      string `json:"suite"`
	Nodes      int    `json:"nodes"`
	Case       string `json:"case"`
	Contestant string `json:"contestant"`
	Metric     string `json:"metric"`
}

// row is one measured quantity with its value in each round.
type row struct {
	spot
	Unit   string    `json:"unit"`
	Better string    `json:"better"`
	Rounds []float64 `json:"rounds"`
	summary
	// The quotients by what the same round measured of the others.
	VsMutex *summary `json:"vs_mutex,omitempty"`
	VsFloor *summary `json:"vs_floor,omitempty"`
}

// book collects the rows of a run, in the order in which they first came.
type book struct {
	mu    sync.Mutex
	rows  []*row
	index map[spot]*row
}

func newBook() *book { return &book{index: map[spot]*row{}} }

// add enters the value of one more round.
func (b *book) add(at spot, unit, better string, value float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.index[at]
	if r == nil {
		r = &row{spot: at, Unit: unit, Better: better}
		b.index[at] = r
		b.rows = append(b.rows, r)
	}
	r.Rounds = append(r.Rounds, value)
}

// rounds are the values at a spot, nil if it was not measured.
func (b *book) rounds(at spot) []float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.index[at]; r != nil {
		return r.Rounds
	}
	return nil
}

// finish computes what follows from the rounds, and returns the rows.
func (b *book) finish() []*row {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rows {
		r.summary = summarize(r.Rounds)
		r.VsMutex = b.against(r, theMutex)
		r.VsFloor = b.against(r, theFloor)
	}
	return b.rows
}

func (b *book) against(r *row, contestant string) *summary {
	base := r.spot
	base.Contestant = contestant
	other := b.index[base]
	if other == nil || r.Contestant == contestant || r.Metric == smallestShare || r.Metric == beyondTTL || r.Metric == medianBeyond {
		return nil // or already a quotient, or a difference
	}
	q := quotients(r.Rounds, other.Rounds)
	if len(q) == 0 {
		return nil
	}
	s := summarize(q)
	return &s
}
