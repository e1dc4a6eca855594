package etcdlock

import (
	"context"
	"iter"
)

// State is the state of a session; see the package documentation for the ways from
// one to the other.
type State int

const (
	// StateConnected: the session has a lease, and etcd answers its renewals.
	StateConnected State = iota + 1
	// StateSuspended: a renewal failed or is overdue. What is held is still held, until
	// its deadline. A holder may use the state to stop early.
	StateSuspended
	// StateLost: the session has no lease, and is trying to get a new one. Everything
	// held under the old one is lost, and was told so.
	StateLost
	// StateClosed: the session has ended for good.
	StateClosed
)

// String is the state's name in lower case.
func (s State) String() string {
	switch s {
	case StateConnected:
		return "connected"
	case StateSuspended:
		return "suspended"
	case StateLost:
		return "lost"
	case StateClosed:
		return "closed"
	default:
		return "unknown"
	}
}

// stateNode is one state in the chain of all. Whoever follows the chain sees each
// of them in order, however late, and nobody needs to know who follows.
type stateNode struct {
	state State
	next  *stateNode    // set before over is closed
	over  chan struct{} // closed when there is a next
}

func newStateNode(s State) *stateNode {
	return &stateNode{state: s, over: make(chan struct{})}
}

// State is the present state.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.state
}

// States yields the present state and then every change, in order, until ctx ends
// or StateClosed was yielded. A slow consumer misses none.
func (s *Session) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		s.mu.Lock()
		node := s.state
		s.mu.Unlock()
		for {
			if !yield(node.state) || node.state == StateClosed {
				return
			}
			select {
			case <-node.over:
				node = node.next
			case <-ctx.Done():
				return
			}
		}
	}
}

// enter goes on to another state; to the one that it is in already is no change,
// and nothing follows StateClosed. Called with s.mu held.
func (s *Session) enter(state State) (changed bool) {
	old := s.state
	if old.state == state || old.state == StateClosed {
		return false
	}
	s.state = newStateNode(state)
	old.next = s.state
	close(old.over)
	return true
}
