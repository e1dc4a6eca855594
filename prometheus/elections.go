package promlock

import (
	"time"

	"github.com/etcdlock/etcdlock"
)

// observed is the last leader of an election, as this process has seen it.
type observed struct {
	createRevision int64
	since          time.Time
	revision       int64 // of the last observation, by whichever Run
	run            int64 // the Run that made it
}

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

// leader counts changes of the leader, and measures the time without one. Each Run of an election
// observes it. The observation of one Run that another Run has made already is skipped. The revisions
// of one Run become smaller if etcd was restored from a backup.
func (m *Metrics) leader(name string, i etcdlock.LeaderSeenInfo) {
	if name == Other {
		return // several elections, whose leaders are not changes of each other
	}
	l := i.Leader
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.seen[name]
	if last != nil && last.run != i.Run && l.Revision <= last.revision {
		return
	}
	now := &observed{l.CreateRevision, time.Now(), l.Revision, i.Run}
	m.seen[name] = now
	switch {
	case last == nil:
	case last.createRevision == l.CreateRevision:
		now.since = last.since
	case l.Vacant():
	case last.createRevision == 0:
		m.vacancy.WithLabelValues(name).Observe(time.Since(last.since).Seconds())
		m.changes.WithLabelValues(name).Inc()
	default:
		m.changes.WithLabelValues(name).Inc()
	}
}
