package etcdlock

import (
	"context"
	"iter"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/states"
)

// State is the state of a session. The package documentation has the transitions between states.
type State int

const (
	// StateConnected means that the session has a lease, and etcd answers its renewals.
	StateConnected State = iota + 1
	// StateSuspended means that a renewal failed or is overdue. Holds continue until their
	// deadline. A holder may use the state to stop early.
	StateSuspended
	// StateLost means that the session has no lease, and tries to obtain a new one. All holds
	// under the old lease are lost and were notified.
	StateLost
	// StateClosed means that the session has ended for good.
	StateClosed
)

// String returns the name of the state in lower case.
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

// sessionStates are the legal edges between the states of a session, which begins connected:
//
//	from                  to         when
//	connected             suspended  a renewal of the lease failed or is overdue
//	suspended             connected  a renewal was answered
//	connected, suspended  lost       the lease has ended
//	lost                  connected  another lease was granted
//	any but closed        closed     a shutdown has begun, see ending
var sessionStates = states.Table[State]{Of: "session", Edges: map[State][]State{
	StateConnected: {StateSuspended, StateLost, StateClosed},
	StateSuspended: {StateConnected, StateLost, StateClosed},
	StateLost:      {StateConnected, StateClosed},
}}

// stateNode is one state in the chain of all states. A reader that follows the chain sees each
// state in order, however late, and the session does not need to know its readers.
type stateNode struct {
	state State
	next  *stateNode    // set before over is closed
	over  chan struct{} // closed when there is a next
}

func newStateNode(s State) *stateNode {
	return &stateNode{state: s, over: make(chan struct{})}
}

// State returns the present state.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.state
}

// States yields the present state and then every change, in order, until ctx ends or StateClosed
// was yielded. A slow consumer misses none.
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

// enter goes on to another state, and returns false if the session is in that state already. It is
// the one place where the state changes. Called with s.mu held.
func (s *Session) enter(to State) (changed bool) {
	from := s.state
	if from.state == to {
		return false
	}
	if err := sessionStates.Check(from.state, to); err != nil {
		s.fail(err)
		return false
	}
	s.state = newStateNode(to)
	from.next = s.state
	close(from.over)
	return true
}

// fail ends the session because of a bug of its own. A state machine was to take an illegal edge,
// and nothing that the session believes can be relied on. Every context ends at once, with the bug as
// the cause. The leases are left to expire, so that no other session is granted what is held here
// while the work stops. It may be called with any mutex held.
func (s *Session) fail(bug error) {
	s.failed.Do(func() {
		s.log.Error("the session ends, and its leases are left to expire", zap.Error(bug))
		how := &ending{cause: lockerr.SessionEnded(bug), expires: bug, keeps: true}
		s.cancel(how.cause)
		go func() { _ = s.shutdown(context.Background(), how) }() // it ends with the tasks of the session
	})
}
