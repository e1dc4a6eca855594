package session

import (
	"context"
	"iter"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/states"
)

// State is the state of a session. The root documents each state under the same name.
type State int

// The states of a session.
const (
	StateConnected State = iota + 1
	StateSuspended
	StateLost
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

// States are the legal edges between the states of a session, which begins connected. Each edge is
// taken by one function:
//
//	from                  to         when                                      in
//	connected             suspended  a renewal of the lease failed or is overdue  answered
//	suspended             connected  a renewal was answered                    answered
//	connected, suspended  lost       the lease has ended                       lose
//	lost                  connected  another lease was granted                 begin
//	any but closed        closed     a shutdown has begun, see ending          end
var States = states.Table[State]{Of: "session", Edges: map[State][]State{
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
// was yielded.
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

// enter changes to another state for a reason, which is nil for StateConnected. It returns false if the
// session is in that state already. It is the one place where the state changes. Called with s.mu held.
func (s *Session) enter(to State, why error) (changed bool) {
	from := s.state
	if from.state == to {
		return false
	}
	if err := States.Check(from.state, to); err != nil {
		s.Fail(err)
		return false
	}
	s.state = newStateNode(to)
	from.next = s.state
	close(from.over)
	if s.cfg.OnState != nil {
		s.cfg.OnState(from.state, to, why)
	}
	return true
}

// Fail ends the session because of a bug in this module. A state machine was to take an illegal edge,
// and nothing that the session believes can be relied on. Every context ends at once, with the bug as
// the cause. The leases are left to expire, so that no other session is granted what is held here
// while the work stops. Fail may be called with any mutex held.
func (s *Session) Fail(bug error) {
	s.failed.Do(func() {
		s.Log.Error("the session ends, and its leases are left to expire", zap.Error(bug))
		how := &ending{cause: lockerr.SessionEnded(bug), expires: bug, keeps: true}
		s.cancel(how.cause)
		go func() { _ = s.shutdown(context.Background(), how) }() // it ends with the tasks of the session
	})
}
