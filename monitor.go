package etcdlock

import (
	"context"
	"sync"
	"time"
)

// Monitor knows what an [Election.Run] is at, for probes and for people; package
// leaderhttp serves it over HTTP. Give it to the Run by [WithMonitor]. The zero value
// is ready, and tells of one Run at a time.
type Monitor struct {
	mu       sync.Mutex
	election *Election
	status   Status
}

// Status is what an [Election.Run] is at.
type Status struct {
	Election string
	Running  bool  // the Run is under way
	Err      error // with which it ended
	Role     Role
	Since    time.Time // when it got the role
	Term     *Term     // while leading or stopping; nil otherwise
	TermAt   time.Time // when the term began

	Session   State // of the election's session
	Unhealthy error // why it does not stand; nil while it is well
	Stuck     bool  // its function has not returned in time, see [WithStopTimeout]

	// Leader is who leads by the last observation, be it this process or another one;
	// LeaderSince is when this process saw it first, zero before the first observation
	// and when Run has ended.
	Leader      Leader
	LeaderSince time.Time
}

// Leading tells whether this process leads now: its function runs, was not told to
// stop, and the term can be relied on.
func (s Status) Leading() bool {
	return s.Role == Leading && s.Term != nil && s.Term.Err() == nil
}

// Status is what the Run is at now. It asks nobody.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	s, e := m.status, m.election
	m.mu.Unlock()
	if e != nil {
		s.Session = e.session.State()
	}
	return s
}

// Candidates reads who leads and who waits, see [Election.Candidates]; [ErrNoLeader]
// before the first Run.
func (m *Monitor) Candidates(ctx context.Context) ([]Leader, error) {
	m.mu.Lock()
	e := m.election
	m.mu.Unlock()
	if e == nil {
		return nil, ErrNoLeader
	}
	return e.Candidates(ctx)
}

// update changes the status, of a monitor that is not nil.
func (m *Monitor) update(change func(s *Status)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
}

func (m *Monitor) begin(e *Election) {
	m.update(func(s *Status) {
		m.election = e
		*s = Status{Election: e.name, Running: true}
	})
}

func (m *Monitor) end(err error) {
	m.update(func(s *Status) {
		s.Running, s.Err, s.Stuck = false, err, false
		s.Leader, s.LeaderSince = Leader{}, time.Time{} // it observes no more
	})
}

func (m *Monitor) enter(role Role, term *Term) {
	m.update(func(s *Status) {
		if s.Role != role {
			s.Role, s.Since = role, time.Now()
		}
		switch {
		case term == nil:
			s.TermAt, s.Stuck = time.Time{}, false
		case s.Term != term:
			s.TermAt = time.Now()
		}
		s.Term = term
	})
}

func (m *Monitor) leader(l Leader) {
	m.update(func(s *Status) {
		if s.LeaderSince.IsZero() || s.Leader.CreateRevision != l.CreateRevision {
			s.LeaderSince = time.Now()
		}
		s.Leader = l
	})
}

func (m *Monitor) health(err error) { m.update(func(s *Status) { s.Unhealthy = err }) }

func (m *Monitor) stuck() { m.update(func(s *Status) { s.Stuck = true }) }
