package admission

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func candidate(created int64, priority int) Entry { return Entry{Created: created, Priority: priority} }

func named(e Entry, by ...int64) Entry {
	for _, revision := range by {
		e.NamedBy(revision)
	}
	return e
}

func TestTheOrderOfCandidates(t *testing.T) {
	for name, c := range map[string]struct {
		all  []Entry
		want []int
	}{
		"nobody": {nil, []int{}},
		"by age": {[]Entry{candidate(1, 0), candidate(2, 0), candidate(3, 0)}, []int{0, 1, 2}},
		"a leader is not disturbed by a priority": {
			[]Entry{candidate(1, 0), candidate(2, 0), candidate(3, 1), candidate(4, 5), candidate(5, 5)}, []int{0, 3, 4, 2, 1}},
		"a named one comes before a priority, the one that was named first before the others": {
			[]Entry{candidate(1, 0), candidate(2, 5), named(candidate(3, 0), 6), named(candidate(4, 0), 7, 5)}, []int{0, 3, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Order(c.all)) })
	}
}

func TestTheOldestCandidateLeadsUnlessAnotherIsPreferred(t *testing.T) {
	for name, c := range map[string]struct {
		oldest Entry
		others []Entry
		want   bool
	}{
		"alone":                              {candidate(1, 0), nil, true},
		"of equals":                          {candidate(1, 2), []Entry{candidate(2, 2), candidate(3, 1)}, true},
		"of a lower priority":                {candidate(1, 2), []Entry{candidate(2, 3)}, false},
		"named":                              {named(candidate(1, 0), 9), []Entry{candidate(2, 3)}, true},
		"another is named":                   {candidate(1, 9), []Entry{named(candidate(2, 0), 9)}, false},
		"named before another":               {named(candidate(1, 0), 8), []Entry{named(candidate(2, 5), 9)}, true},
		"named after another":                {named(candidate(1, 5), 9), []Entry{named(candidate(2, 0), 8)}, false},
		"a candidate that knows no priority": {candidate(1, 0), []Entry{candidate(2, -1)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, MayLead(c.oldest, append([]Entry{c.oldest}, c.others...)))
		})
	}
}

// When the leader has gone, the oldest candidates move to the end of the queue until one may lead: it
// is the one that was next in order.
func TestTheNextInOrderLeads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5_000 {
		all := drawQueue(r.IntN)
		if len(all) < 2 {
			continue
		}
		next := all[Order(all)[1]]
		left, last := slices.Clone(all[1:]), int64(100)
		for !MayLead(left[0], left) {
			last++
			moved := left[0]
			moved.Created, moved.Successor = last, 0
			left = append(left[1:], moved)
			require.Less(t, last, int64(200), "they all move for ever: %+v", all)
		}
		require.Equal(t, next, left[0], "%+v", all)
	}
}

func TestWhichCandidatePreemptsALeader(t *testing.T) {
	taking := func(priority int) Entry { return Entry{Created: 9, Priority: priority, Takeover: true} }
	require.True(t, Preempts(taking(3), candidate(1, 2)))
	require.False(t, Preempts(taking(2), candidate(1, 2)), "a leader of the same priority")
	require.False(t, Preempts(candidate(9, 3), candidate(1, 2)), "it does not want to")
	require.False(t, Preempts(taking(3), named(candidate(1, 2), 5)), "another leader wanted this one")
}
