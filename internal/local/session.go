package local

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// What the session reports of its lease and of its end, and what it asks.

// SetLease gives the table a lease. Leases are numbered from 1.
func (m *Table) SetLease(l *lease.Lease, number int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases.set(l, number)
}

// Suspend reports whether etcd leaves the renewals of a lease unanswered. No key is kept for later
// callers meanwhile.
func (m *Table) Suspend(number int, suspended bool) {
	m.mu.Lock()
	present := m.leases.suspend(number, suspended)
	m.mu.Unlock()
	if present && suspended {
		m.locals.all.Walk(&m.mu, func(l *Queue) {
			if m.leases.suspended {
				l.owned.giveUpKept()
			}
		})
	}
}

// Numbered returns the present lease if it has a number; nil otherwise.
func (m *Table) Numbered(number int) *lease.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number != m.leases.number {
		return nil
	}
	return m.leases.present.Load()
}

// ForgetLease ends what goes with the present lease, which has ended. All holds and waits under it have
// ended already, by its context. ForgetLease returns how many holds these were, and describes them for
// the log.
func (m *Table) ForgetLease() (holds int, told []string) {
	m.FinishLost()
	m.mu.Lock()
	lost := m.losses.take()
	m.leases.forget()
	m.gate.news.Broadcast()
	m.mu.Unlock()
	return len(lost), describe(lost)
}

// FinishLost finishes all ownerships of leases that have ended.
func (m *Table) FinishLost() {
	m.locals.all.Walk(&m.mu, func(l *Queue) {
		t := l.owned
		m.noteLoss(t)
		switch {
		case t == nil || !l.driver.holds() || t.lease.Context().Err() == nil:
		case !l.mayRest(t):
			l.attend()
		default:
			t.goWithLease()
			l.rest()
		}
	})
	m.beside.all.Walk(&m.mu, func(t *Ownership) {
		m.noteLoss(t)
		if t.lease.Context().Err() != nil && !t.attended {
			t.goWithLease()
		}
	})
}

// Lease returns the present lease, nil for none, and a channel that is closed for another one.
func (m *Table) Lease() (l *lease.Lease, news <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leases.present.Load(), m.leases.news.Changed()
}

// Spawn notes by a function that a goroutine begins, and starts it, if a call is admitted.
func (m *Table) Spawn(note, run func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.gate.admits()
	if err == nil {
		note()
		m.gate.spawn(run)
	}
	return err
}

// Continue starts a goroutine for a call that was admitted; false once the table is closed.
func (m *Table) Continue(run func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gate.spawn(run)
}

// Settled is called when an uncertain key can be written no more, or a posted request is gone.
func (m *Table) Settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.wake()
}

// Close lets nothing begin from now on.
func (m *Table) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admit(closed)
}

// Wait blocks until every goroutine has ended.
func (m *Table) Wait() { m.gate.tasks.Wait() }

// BeginDrain admits no further calls. done ends that, unless the table is closed by then.
func (m *Table) BeginDrain() (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gate.drains++; m.gate.state == open {
		m.admit(draining)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.gate.drains--; m.gate.drains == 0 && m.gate.state == draining {
			m.admit(open)
		}
	}
}

// Draining returns how many ownerships have begun to end, whether the table is closed, and a channel
// that is closed when something that Drain waits for may be over.
func (m *Table) Draining() (ends int, over bool, news <-chan struct{}) {
	m.leases.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gate.ends, m.gate.state == closed, m.gate.news.Changed()
}

// Pending ends what Drain does not wait for, and counts what it waits for. While no call is admitted,
// only the end of an ownership makes more of that. If none has ended meanwhile, and nothing was
// counted, nothing is pending. Local queues come first, as an ownership leaves them for the others.
func (m *Table) Pending() (n int) {
	m.locals.all.Walk(&m.mu, func(l *Queue) {
		l.failWaiters(nil, ErrDrained)
		l.owned.giveUpKept()
		if l.owned.unmark(ErrDrained) || !l.owned.open() && l.phase != idle {
			n++
		}
	})
	m.beside.all.Walk(&m.mu, func(t *Ownership) {
		if t.unmark(ErrDrained) || !t.open() {
			n++
		}
	})
	return n
}

// Posted returns the queues that may have an inbox in etcd.
func (m *Table) Posted() (all []*queue.Queue) {
	m.locals.all.Walk(&m.mu, func(l *Queue) {
		if l.Single != nil && l.Single.Posted() != clientv3.NoLease {
			all = append(all, l.Single)
		}
	})
	return all
}

// Telling is a marked entry that stands.
type Telling struct {
	Queue *queue.Queue
	Entry *queue.Entry
}

// Telling returns the marked entries that hold or wait.
func (m *Table) Telling() (all []Telling) {
	m.locals.all.Walk(&m.mu, func(l *Queue) {
		e := l.waits()
		if l.owned.open() {
			e = l.owned.entry
		}
		if e != nil && e.Marked() {
			l.prepare()
			all = append(all, Telling{l.Single, e})
		}
	})
	return all
}

// CloseIf closes the table, unless an ownership has begun to end since ends were counted.
func (m *Table) CloseIf(ends int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ends == m.gate.ends {
		m.admit(closed)
	}
}

// Stats are counts of a table. The names are looked at one after the other, so a call or a hold that
// comes or goes meanwhile may be counted or not.
type Stats struct {
	Holds    int                   // of callers
	Oldest   time.Duration         // how long the oldest of them has lasted; 0 if there is none
	Kept     int                   // keys that are kept without a holder
	Leaving  int                   // keys without a holder that are still to be deleted
	Waiting  int                   // calls that have no outcome
	Grants   [PathQueued + 1]int64 // by path, since the table was made
	Released int64                 // holds, since then
	Lost     int64                 // holds, since then
}

// Stats returns the counts. It takes time in proportion to the names in use.
func (m *Table) Stats() Stats {
	m.leases.look()
	m.mu.Lock()
	s := Stats{Grants: m.counts.grants, Released: m.counts.released, Lost: m.counts.lost}
	m.mu.Unlock()
	m.locals.all.Walk(&m.mu, func(l *Queue) {
		s.Waiting += l.waiters.count
		if l.phase == leaving {
			s.Leaving++
		}
		s.add(l.owned)
	})
	m.beside.all.Walk(&m.mu, s.add)
	return s
}

// Snapshot is what a table has in one instant. Tests look at it.
type Snapshot struct {
	Admission string
	Queues    int // local queues
	Idle      int // those of them that are idle
}

// Snapshot returns what the table has now.
func (m *Table) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{Admission: m.gate.state.String(), Queues: m.locals.all.Len(), Idle: m.locals.undriven}
}

// add counts the holders of an ownership, or its key while it is deleted. Called with Table.mu held.
func (s *Stats) add(t *Ownership) {
	switch {
	case t == nil:
	case t.state == releasing && t.left.IsSet():
		s.Leaving++
	case t.life.Cause() != nil:
	case t.state == kept:
		s.Kept++
	case t.holders > 0:
		s.Holds += int(t.holders)
		s.Oldest = max(s.Oldest, t.clock()-t.since)
	}
}
