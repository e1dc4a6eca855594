package promlock

import (
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// enters notes the role of a Run. The gauge has one role for each election: the highest one that a Run
// of this process has, so that it says whether the process leads. A Run that has ended is an observer.
func (m *Metrics) enters(name string, i etcdlock.RoleInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.roles[name]
	if r == nil {
		r = &roles{of: make(map[int64]etcdlock.Role)}
		m.roles[name] = r
	}
	if r.shown != 0 {
		m.role.WithLabelValues(name, r.shown.String()).Set(0)
	}
	delete(r.of, i.Run)
	if i.Role != etcdlock.RoleObserver {
		r.of[i.Run] = i.Role
	}
	r.shown = etcdlock.RoleObserver
	for _, role := range r.of {
		r.shown = max(r.shown, role)
	}
	m.role.WithLabelValues(name, r.shown.String()).Set(1)
}

// roles are those of all Runs of an election in this process.
type roles struct {
	of    map[int64]etcdlock.Role // by Run, without observers
	shown etcdlock.Role
}

// leader counts changes of the leader, and measures the time without one.
func (m *Metrics) leader(name string, i etcdlock.LeaderSeenInfo) {
	seen := telemetry.Leader{CreateRevision: i.Leader.CreateRevision, Revision: i.Leader.Revision, Run: i.Run}
	changed, vacant := m.leaders.See(name, seen, time.Now())
	if changed {
		m.changes.WithLabelValues(name).Inc()
	}
	if vacant > 0 {
		m.vacancy.WithLabelValues(name).Observe(vacant.Seconds())
	}
}

// termEnded counts the end of the work of a term.
func (m *Metrics) termEnded(i etcdlock.TermEndInfo) {
	name := m.elections.Label(i.Election)
	m.ends.WithLabelValues(name, telemetry.TermEnd(i.Told, i.Lost, i.Err, etcdlock.ErrorType)).Inc()
	if i.Told != nil {
		m.stop.WithLabelValues(name).Observe(i.Stop.Seconds())
	}
	if m.terms.Returned(i.Election, i.CreateRevision) {
		m.hangs.WithLabelValues(name).Dec()
	}
}

// isStuck counts work that does not stop.
func (m *Metrics) isStuck(i etcdlock.StuckTerm) {
	name := m.elections.Label(i.Term.Name())
	m.stuck.WithLabelValues(name).Inc()
	m.hangs.WithLabelValues(name).Inc()
	m.terms.Add(i.Term.Name(), i.Term.CreateRevision())
}
