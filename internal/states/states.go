// Package states holds the state machines of other packages to their tables. Each machine has one
// type for its states, a table of the legal edges, and one setter that asks the table.
package states

import (
	"fmt"
	"slices"
)

// Table has the legal edges of a state machine.
type Table[S comparable] struct {
	Of    string    // what has the states, for errors
	Edges map[S][]S // the states that may follow each state
}

// Check returns an EdgeError if to may not follow from. The setter then leaves the state as it is
// and ends what the machine belongs to.
func (t *Table[S]) Check(from, to S) error {
	if slices.Contains(t.Edges[from], to) {
		Taken(t.Of, from, to)
		return nil
	}
	err := &EdgeError{Of: t.Of, From: fmt.Sprint(from), To: fmt.Sprint(to)}
	Refused(err)
	return err
}

// EdgeError is the error of an edge that no table has: a bug of etcdlock.
type EdgeError struct{ Of, From, To string }

func (e *EdgeError) Error() string {
	return fmt.Sprintf("bug in etcdlock: illegal state change of the %s from %s to %s", e.Of, e.From, e.To)
}

// Taken is called with each legal edge that is taken. Tests record them.
var Taken = func(of string, from, to any) {}

// Refused is called with the error of each refused edge. Tests let it panic.
var Refused = func(error) {}
