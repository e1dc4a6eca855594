package leaderloop

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/states"
)

// Role is what a loop is in its election.
type Role int

// The roles are those of the root package.
const (
	RoleObserver  Role = iota + 1 // not in the queue
	RoleCandidate                 // in the queue
	RoleLeading                   // the work runs
	RoleStopping                  // the work was told to stop, and has not returned
)

// String is the role's name in lower case.
func (r Role) String() string {
	switch r {
	case RoleObserver:
		return "observer"
	case RoleCandidate:
		return "candidate"
	case RoleLeading:
		return "leading"
	case RoleStopping:
		return "stopping"
	default:
		return "unknown"
	}
}

// roles are the legal edges between the roles. A loop begins without a role.
var roles = states.Table[Role]{Of: "role of a Run", Edges: map[Role][]Role{
	0:             {RoleObserver},
	RoleObserver:  {RoleCandidate},
	RoleCandidate: {RoleLeading, RoleObserver},  // a term was won; the campaign has failed
	RoleLeading:   {RoleStopping, RoleObserver}, // the work was told to stop; it returned by itself
	RoleStopping:  {RoleObserver},
}}

// Status is the role of a loop, with its circumstances.
type Status struct {
	Running   bool
	Err       error // with which Run has ended
	Role      Role
	Since     time.Time // when the loop got the role
	Term      Term      // while leading or stopping; nil otherwise
	TermSince time.Time

	Unhealthy     error         // why the process is not healthy; nil while it is
	Stuck         bool          // the work has not returned in time
	StopAfterLoss time.Duration // how long the work has to return when its term expires
}

// state is the status of a loop. It tells the monitor of each change and the callback of each role,
// in order.
type state struct {
	name      string
	log       *zap.Logger
	monitor   func(Status) // nil if there is none
	onRole    func(Role)   // nil if there is none
	onHealth  func(error)  // nil if there is none
	callbacks *callbackQueue
	fail      context.CancelCauseFunc // ends the loop

	mu     sync.Mutex
	status Status // guarded by mu
}

func newState(cfg Config, callbacks *callbackQueue, fail context.CancelCauseFunc) *state {
	return &state{
		name: cfg.Name, log: cfg.Log, monitor: cfg.Monitor, onRole: cfg.OnRole, onHealth: cfg.OnHealth, callbacks: callbacks, fail: fail,
		status: Status{Running: true},
	}
}

// enter gives the loop another role, and a term while it leads or stops. After an illegal edge the
// loop keeps its role, and ends with the error.
func (s *state) enter(to Role, term Term) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := roles.Check(s.status.Role, to); err != nil {
		s.log.Error("Run ends because of a bug of etcdlock; please report it", zap.String("name", s.name), zap.Error(err))
		s.fail(err)
		return
	}
	now := time.Now()
	if term != s.status.Term {
		s.status.TermSince = now
	}
	s.status.Role, s.status.Since, s.status.Term = to, now, term
	s.status.Stuck = s.status.Stuck && term != nil
	s.publish()
	if s.onRole != nil {
		s.callbacks.put(func() { s.onRole(to) })
	}
}

// publish gives the status to the monitor. Called with mu held.
func (s *state) publish() {
	if s.monitor != nil {
		s.monitor(s.status)
	}
}

// update changes the status without a change of role.
func (s *state) update(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
	s.publish()
}

// setHealth is called with each change, nil when the process is healthy.
func (s *state) setHealth(err error) {
	s.update(func(st *Status) { st.Unhealthy = err })
	if s.onHealth != nil {
		s.callbacks.put(func() { s.onHealth(err) })
	}
}

func (s *state) setStopAfterLoss(d time.Duration) {
	s.update(func(st *Status) { st.StopAfterLoss = d })
}

func (s *state) setStuck() { s.update(func(st *Status) { st.Stuck = true }) }

// end is the last change.
func (s *state) end(err error) {
	s.update(func(st *Status) { st.Running, st.Err, st.Stuck = false, err, false })
}
