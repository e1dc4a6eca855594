// Package roster has lists that can be long, and that members leave in any order. The mutex that
// guards a list is not held for the whole of a walk through it.
package roster

import "sync"

// Batch is the most members that are visited by a walk while the mutex is held.
const Batch = 64

// List is a list of members. A mutex of the caller guards the list and the indexes. The zero value is ready
// for use.
type List[T Member] struct{ members []T }

// Member keeps its index in the list, which changes when another member leaves.
type Member interface{ Index() *int }

// Add adds a member at the end.
func (l *List[T]) Add(value T) {
	*value.Index() = len(l.members)
	l.members = append(l.members, value)
}

// Remove removes the member at an index. The last one takes its place.
func (l *List[T]) Remove(index int) {
	last := len(l.members) - 1
	l.members[index] = l.members[last]
	*l.members[index].Index() = index
	clear(l.members[last:])
	l.members = l.members[:last]
}

// Len returns the number of members.
func (l *List[T]) Len() int { return len(l.members) }

// Walk visits each member that is in the list from the beginning of the walk to its end, the last one
// first. A member may be visited twice, and a member that comes or leaves meanwhile may be visited.
// Walk is called without the mutex, and takes it for each Batch of visits. A visit may remove the member
// that it visits, but no other one.
func (l *List[T]) Walk(mu sync.Locker, visit func(T)) {
	mu.Lock()
	for next := len(l.members) - 1; next >= 0; {
		for range Batch {
			if next = min(next, len(l.members)-1); next < 0 {
				break
			}
			visit(l.members[next])
			next--
		}
		mu.Unlock()
		mu.Lock()
	}
	mu.Unlock()
}
