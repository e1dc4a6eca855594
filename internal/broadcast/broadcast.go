// Package broadcast wakes all goroutines that wait for a change of some state.
package broadcast

// Signal belongs to a state that a mutex guards. Both methods are called with this mutex held: a
// waiter that looks at the state and calls Changed in one critical section misses no change. The
// zero value is ready for use.
type Signal struct {
	changed chan struct{} // nil while no goroutine waits
}

// Changed returns a channel that the next Broadcast closes.
func (s *Signal) Changed() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// Broadcast wakes all goroutines that wait. It is called after each change of the state.
func (s *Signal) Broadcast() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
