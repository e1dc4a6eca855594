package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// none is the overlap where no two holds had to exclude each other.
const none = time.Duration(math.MinInt64)

// overlap is the longest time for which holds of one name stood together that must not:
// negative is the shortest gap between them.
func overlap(holds []*holding, capacity int) time.Duration {
	worst := none
	var ends []*holding // the older ones, the one that ended last first
	for _, h := range holds {
		// Of the older ones, those that lasted longest are the last to make room.
		for i, weight := 0, h.Weight; i < len(ends); i++ {
			if weight += ends[i].Weight; weight > capacity {
				worst = max(worst, ends[i].To.sub(h.From))
				break
			}
		}
		at, _ := slices.BinarySearchFunc(ends, h, func(a, b *holding) int { return int(b.To - a.To) })
		ends = slices.Insert(ends, at, h)
		if len(ends) > 100 {
			ends = ends[:100] // long over
		}
	}
	return worst
}

// tokens checks that the fencing token grows from client to client where they must not
// hold at one time.
func tokens(holds []*holding, capacity int) (violations []string) {
	last := map[int]*holding{} // by weight, the one with the largest token
	for _, h := range holds {
		for weight, l := range last {
			again := h.Token == l.Token && h.Client == l.Client
			if weight+h.Weight > capacity && h.Token <= l.Token && !again {
				violations = append(violations, fmt.Sprintf("token %d of %s after token %d of %s on %s", h.Token, h.Client, l.Token, l.Client, h.Name))
			}
		}
		if l := last[h.Weight]; l == nil || h.Token > l.Token {
			last[h.Weight] = h
		}
	}
	return violations
}

// proven checks each hold against what etcd says: the token is a revision at which its
// key stood. It also puts in when the key was made and gone.
func proven(holds []*holding, e *evidence, strict bool) (violations []string) {
	for _, h := range holds {
		l, ok := e.of(h.Key, h.Token)
		if !ok {
			if strict {
				violations = append(violations, fmt.Sprintf("no key %s stood at revision %d, the token of %s", h.Key, h.Token, h.Client))
			}
			continue
		}
		h.Entry, h.Gone = l.created, l.gone
	}
	return violations
}

// names splits the holds of a group by name.
func names(holds []*holding) map[string][]*holding {
	all := map[string][]*holding{}
	for _, h := range holds {
		all[h.Name] = append(all[h.Name], h)
	}
	return all
}

// successions are the times from the start of each fault until a client that it did not hit was
// granted.
func successions(events []event, spans []span, shared string) (all []time.Duration) {
	marked := marksOf(events)
	for _, s := range spans {
		took := time.Duration(math.MaxInt64)
		for _, e := range events {
			if e.What != isHeld || e.Name != shared || e.At <= s.from {
				continue
			}
			if !slices.ContainsFunc(marked[e.Client].struck, func(t span) bool { return t.from == s.from }) {
				took = min(took, e.At.sub(s.from))
			}
		}
		if took < math.MaxInt64 {
			all = append(all, took)
		}
	}
	return all
}
