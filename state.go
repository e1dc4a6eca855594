package etcdlock

import (
	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/session"
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
func (s State) String() string { return session.State(s).String() }

// Role is the part that an [Election.Run] has in its election.
type Role int

const (
	// RoleObserver is the role of a Run that is not in the queue. It has this role at its start,
	// while the process is unhealthy, in the pause after a loss, and at its end.
	RoleObserver Role = iota + 1
	// RoleCandidate is the role of a Run that is in the queue.
	RoleCandidate
	// RoleLeading is the role of a Run while its function runs.
	RoleLeading
	// RoleStopping is the role of a Run while its function was told to stop and has not returned.
	// No other process leads meanwhile, unless the term was lost or the function itself resigned.
	RoleStopping
)

// String returns the name of the role in lower case.
func (r Role) String() string { return leaderloop.Role(r).String() }
