package main

import "time"

// plan is how much of everything is measured.
type plan struct {
	rounds     int
	nodes      []int
	alonePairs int // of each act in a round
	ages       []time.Duration
	handovers  int // of each contestant, age and round
	crowds     []int
	clients    int           // of a large crowd, in a few processes; 0 for none
	span       time.Duration // of one contention
	storms     time.Duration // of one storm
	callers    int           // with a name each
	queue      int           // entries in the deep queue
	behind     []int         // idle entries behind the clients that hand over
	entries    int           // entries into the queue, of each contestant and depth
	kept       int           // pairs under retention
	strangers  int
	atRest     int // sessions, locks, waiters
	watched    time.Duration
	crashes    int // of each contestant and round
	ttls       []time.Duration
	everything bool // also what no target asks for
}

// fullPlan is `make bench`.
var fullPlan = plan{
	rounds:     5,
	nodes:      []int{1, 3},
	alonePairs: 400,
	ages:       []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 250 * time.Millisecond},
	handovers:  150,
	crowds:     []int{2, 8, 32, 128},
	clients:    512,
	span:       1500 * time.Millisecond,
	storms:     8 * time.Second,
	callers:    256,
	queue:      5000,
	behind:     []int{0, 100, 1000, 5000, 10_000},
	entries:    40,
	kept:       200_000,
	strangers:  60,
	atRest:     400,
	watched:    8 * time.Second,
	crashes:    4,
	ttls:       []time.Duration{2 * time.Second, 5 * time.Second},
	everything: true,
}

// profiled is the plan for profiles: a share of a hundred samples is a guess, and a
// hundred samples are a second of processor time.
func (p plan) profiled() plan {
	p.span = 5 * time.Second
	p.alonePairs = 4000
	p.handovers = 300
	p.entries = 300
	p.kept = 4_000_000
	p.strangers = 150
	return p
}

// quickPlan is `make bench-quick`: one node, one round of what the targets ask for.
var quickPlan = plan{
	rounds:     1,
	nodes:      []int{1},
	alonePairs: 1500,
	ages:       fullPlan.ages,
	handovers:  120,
	crowds:     fullPlan.crowds,
	span:       time.Second,
	storms:     4 * time.Second,
	callers:    256,
	queue:      5000,
	behind:     []int{0, 5000},
	entries:    30,
	kept:       200_000,
	strangers:  40,
	atRest:     200,
	crashes:    3,
	ttls:       []time.Duration{2 * time.Second},
}
