package session

import (
	"context"
	"iter"

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

// from yields the state of the node and then every change, in order, until ctx ends or StateClosed was
// yielded.
func (n *stateNode) from(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		for node := n; yield(node.state) && node.state != StateClosed; node = node.next {
			select {
			case <-node.over:
			case <-ctx.Done():
				return
			}
		}
	}
}

// become ends the node with the next state, and returns the node of that.
func (n *stateNode) become(to State) *stateNode {
	n.next = newStateNode(to)
	close(n.over)
	return n.next
}
