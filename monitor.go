package etcdlock

import (
	"context"
	"sync"
	"time"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Monitor has the status of an [Election.Run], for probes and for people. Package leaderhttp serves
// it over HTTP. [WithMonitor] connects it to the Run. The zero value is ready, and has the status
// of one Run at a time.
type Monitor struct {
	mu       sync.Mutex
	election *Election
	status   ElectionStatus
	termAt   time.Time // when the term of status began
}

// ElectionStatus is the status of an [Election.Run].
type ElectionStatus struct {
	Election string
	Running  bool  // the Run is under way
	Err      error // with which it ended
	Role     Role
	Since    time.Time // when it got the role
	Term     *TermInfo // while leading or stopping; nil otherwise

	Session   State // of the election's session
	Unhealthy error // why it does not stand; nil while it is well
	Stuck     bool  // its function has not returned in time, see [WithStopTimeout]

	// StopAfterLoss is how long the function has to return when its term expires: three quarters of
	// the margin ([WithMargin]), or the stop timeout if that is shorter. It is zero until the Run
	// has a session for its terms.
	StopAfterLoss time.Duration

	// Leader is the leader of the last observation, which may be this process or another one.
	// LeaderSince is when this process saw this leader first. Both are zero before the first
	// observation and when Run has ended.
	Leader      Leader
	LeaderSince time.Time

	term *Term // the one that Term tells of
}

// TermInfo is a term at the time of the call of [Monitor.Status].
type TermInfo struct {
	Token          int64
	CreateRevision int64
	Since          time.Time // when the term began
	Value          string
	Deadline       time.Time // see [Held.Deadline]; zero once the term has ended
}

// Leading reports whether this process leads at the time of the call. Its function then runs and
// was not told to stop, and the term can be relied on.
func (s ElectionStatus) Leading() bool {
	return s.Role == RoleLeading && s.term != nil && s.term.Err() == nil
}

// Status returns the present status of the Run. It makes no request.
func (m *Monitor) Status() ElectionStatus {
	m.mu.Lock()
	s, e, at := m.status, m.election, m.termAt
	m.mu.Unlock()
	if e != nil {
		s.Session = e.session.State()
	}
	if t := s.term; t != nil {
		s.Term = &TermInfo{
			Token: t.Token(), CreateRevision: t.CreateRevision(), Since: at, Value: t.Value(), Deadline: t.Deadline(),
		}
	}
	return s
}

// Candidates lists the leader and the candidates that wait, see [Election.Candidates]. Before the
// first Run it returns [ErrNoLeader].
func (m *Monitor) Candidates(ctx context.Context) ([]Candidate, error) {
	m.mu.Lock()
	e := m.election
	m.mu.Unlock()
	if e == nil {
		return nil, ErrNoLeader
	}
	return e.Candidates(ctx)
}

func init() {
	testhook.Root.SetMonitor = func(monitor, status, term any) {
		m, t := monitor.(*Monitor), term.(*Term)
		m.update(func(s *ElectionStatus) {
			*s = status.(ElectionStatus)
			s.term, m.termAt = t, s.Since
		})
	}
}

// update changes the status, of a monitor that is not nil.
func (m *Monitor) update(change func(s *ElectionStatus)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
}

func (m *Monitor) begin(e *Election) {
	m.update(func(s *ElectionStatus) {
		m.election = e
		*s = ElectionStatus{Election: e.name, Running: true}
	})
}

// set takes over what the loop of Run is at.
func (m *Monitor) set(l leaderloop.Status, term *Term) {
	m.update(func(s *ElectionStatus) {
		s.Running, s.Err, s.Role, s.Since = l.Running, l.Err, Role(l.Role), l.Since
		s.Unhealthy, s.Stuck, s.StopAfterLoss = l.Unhealthy, l.Stuck, l.StopAfterLoss
		s.term, m.termAt = term, l.TermSince
		if !l.Running {
			s.Leader, s.LeaderSince = Leader{}, time.Time{} // it observes no more
		}
	})
}

func (m *Monitor) leader(l Leader) {
	m.update(func(s *ElectionStatus) {
		if s.LeaderSince.IsZero() || s.Leader.CreateRevision != l.CreateRevision || s.Leader.Key != l.Key {
			s.LeaderSince = time.Now()
		}
		s.Leader = l
	})
}
