package admission

import (
	"cmp"
	"math"
	"slices"
)

// The oldest candidate of an election leads, or is about to. The order of the other candidates only
// decides which of them leads next: a candidate for which it is too early moves to the end of the
// queue when it becomes the oldest. A candidate of another library does not do that, and leads.
//
// The candidates that a leader has named in a Transfer come first. Each of them has a successor key,
// and the oldest successor key counts. The other candidates follow by priority, and then by age.

// NamedBy notes a successor key that names the candidate, by the revision of its write.
func (e *Entry) NamedBy(successorKey int64) {
	if e.Successor == 0 || successorKey < e.Successor {
		e.Successor = successorKey
	}
}

// before compares two candidates of one age: negative if e is to lead before o.
func (e *Entry) before(o *Entry) int {
	return cmp.Or(cmp.Compare(e.named(), o.named()), cmp.Compare(o.Priority, e.Priority))
}

func (e *Entry) named() int64 {
	if e.Successor == 0 {
		return math.MaxInt64
	}
	return e.Successor
}

// MayLead reports whether the oldest candidate leads. Otherwise another one of all leads first.
func MayLead(oldest Entry, all []Entry) bool {
	return !slices.ContainsFunc(all, func(o Entry) bool { return o.before(&oldest) < 0 })
}

// Order returns the indices of all candidates in the order in which they are to lead. all is in order
// of age.
func Order(all []Entry) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	if len(order) > 1 {
		slices.SortStableFunc(order[1:], func(i, j int) int { return all[i].before(&all[j]) })
	}
	return order
}

// Preempts reports whether a candidate is entitled to take over from a leader, once it has waited for
// the leader's takeover delay. A leader that was named in a Transfer is not preempted.
func Preempts(challenger, leader Entry) bool {
	return leader.Successor == 0 && challenger.Takeover && challenger.Priority > leader.Priority
}
