package etcdlock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// coverage is what the schedules of a test have made occur.
type coverage struct {
	mu                        sync.Mutex
	schedules                 int
	processes                 int
	levels                    map[[2]int]int // factor and level: processes in which it had an effect
	pairs                     map[[4]int]int // two of them
	changes                   map[[3]int]int // factor, level before and after, of a lease that was taken over
	ops                       map[string]int // operations with success, and effects of several processes
	faults                    map[int]int    // by index
	grants, handovers, losses int
	vacant                    time.Duration
	largest                   map[string]float64
}

func newCoverage() *coverage {
	return &coverage{levels: map[[2]int]int{}, pairs: map[[4]int]int{}, changes: map[[3]int]int{}, ops: map[string]int{}, faults: map[int]int{}, largest: map[string]float64{}}
}

func (c *coverage) op(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops[name]++
}

// atMost takes note of a figure, of which the largest is told.
func (c *coverage) atMost(what string, n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.largest[what] = max(c.largest[what], n)
}

func (c *coverage) fault(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[i]++
}

// process takes stock of a process that has ended.
func (c *coverage) process(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.processes++
	counts := func(i int) bool { return p.row[i] == 0 || p.effects[i] > 0 }
	for i := range factors {
		if !counts(i) {
			continue
		}
		c.levels[[2]int{i, p.row[i]}]++
		for j := range i {
			if counts(j) {
				c.pairs[[4]int{j, p.row[j], i, p.row[i]}]++
			}
		}
	}
}

// adopted takes note that a process goes on with the lease of one with another row.
func (c *coverage) adopted(before, after row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range factors {
		c.changes[[3]int{i, before[i], after[i]}]++
	}
}

func (c *coverage) schedule(f *deployment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedules++
	c.grants += f.grants
	c.handovers += f.handovers
	c.losses += f.losses
	c.vacant = max(c.vacant, f.vacant)
}

// missing names every level, pair, operation and fault that has not occurred.
func (c *coverage) missing() (all []string) {
	eachLevel(func(i, a int) {
		if c.levels[[2]int{i, a}] == 0 {
			all = append(all, factors[i].level(a))
		}
	})
	eachPair(func(i, a, j, b int) {
		if c.pairs[[4]int{i, a, j, b}] == 0 {
			all = append(all, factors[i].level(a)+" with "+factors[j].level(b))
		}
	})
	for _, op := range operations {
		if c.ops[op] == 0 {
			all = append(all, op)
		}
	}
	for i := range fleetFaults {
		if c.faults[i] == 0 {
			all = append(all, fleetFaults[i].name)
		}
	}
	return all
}

// wanted is how much there is to occur.
func (c *coverage) wanted() (n int) {
	eachLevel(func(int, int) { n++ })
	eachPair(func(int, int, int, int) { n++ })
	return n + len(operations) + len(fleetFaults)
}

func eachLevel(do func(factor, level int)) {
	for i := range factors {
		for a := range len(factors[i].values) + 1 {
			if a > 0 || !factors[i].always {
				do(i, a)
			}
		}
	}
}

// eachPair goes through the pairs of levels that a process can have.
func eachPair(do func(i, a, j, b int)) {
	eachLevel(func(j, b int) {
		eachLevel(func(i, a int) {
			if i < j && !excluded(i, a, j, b) {
				do(i, a, j, b)
			}
		})
	})
}

func excluded(i, a, j, b int) bool {
	for _, x := range exclusions {
		for _, pair := range [][4]int{{i, a, j, b}, {j, b, i, a}} {
			if factors[pair[0]].id() != x.a || factors[pair[2]].id() != x.b || pair[1] == 0 {
				continue
			}
			if x.without == (pair[3] == 0) {
				return true
			}
		}
	}
	return false
}

// figures tells what has occurred, in a few lines.
func (c *coverage) figures() string {
	var b strings.Builder
	pairs, missing := 0, 0
	eachPair(func(i, a, j, b int) {
		pairs++
		if c.pairs[[4]int{i, a, j, b}] == 0 {
			missing++
		}
	})
	fmt.Fprintf(&b, "%d schedules, %d processes, %d pairs of options of %d; %d grants, %d in memory, %d holds lost; a leader %v after the faults at the latest\n",
		c.schedules, c.processes, pairs-missing, pairs, c.grants, c.handovers, c.losses, c.vacant)
	changes, of := 0, 0
	for i := range factors {
		if factors[i].at != "session" && factors[i].at != "election" && factors[i].at != "run" {
			continue
		}
		eachLevel(func(j, before int) {
			eachLevel(func(k, after int) {
				if i == j && i == k {
					of++
					if c.changes[[3]int{i, before, after}] > 0 {
						changes++
					}
				}
			})
		})
	}
	fmt.Fprintf(&b, "leases taken over with a change of an option: %d of %d\n", changes, of)
	for _, what := range slices.Sorted(maps.Keys(c.largest)) {
		fmt.Fprintf(&b, "%s at rest: %.0f at most\n", what, c.largest[what])
	}
	for i := range factors {
		for a := range len(factors[i].values) + 1 {
			fmt.Fprintf(&b, "  %5d  %s\n", c.levels[[2]int{i, a}], factors[i].level(a))
		}
	}
	for i, f := range fleetFaults {
		fmt.Fprintf(&b, "  %5d  %s\n", c.faults[i], f.name)
	}
	return b.String()
}
