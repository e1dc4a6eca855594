package lockmgr

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// A hold needs no goroutine. It is not watched while it is young. Then the keeper of the session
// watches its key, with those of all other holds, and reports what concerns it. Only what has to be
// waited for, as the deletion of the key by another goroutine than the holder's, needs the worker.

// unattended leaves an ownership to its holder. Called with Manager.mu held, by the driver.
func (t *ownership) unattended() {
	l := t.local
	l.endWait()
	l.drive(driverHolder)
	l.manager.settle.Set(&t.young, t)
}

// Fire has the key watched of an ownership that has lasted for a while.
func (t *ownership) Fire() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.left.IsSet() && (t.beside || t == t.local.owned && t.local.driver == driverHolder) {
		t.lasts()
	}
}

// lasts has the keeper watch the key. Called with Manager.mu held, by the driver.
func (t *ownership) lasts() {
	l := t.local
	if t == l.owned {
		l.drive(driverKeeper)
	}
	if t.ended() || t.guard != nil || l.manager.admission == closed {
		return
	}
	t.guard = t.queue.Guard(l.manager.guards, t.entry, t)
	if t.retained.IsSet() {
		t.guard.Keep()
	}
}

// listen has other sessions heard of that line up. Called with Manager.mu held.
func (t *ownership) listen() {
	switch t.local.driver { //nolint:exhaustive // the worker is told by retained
	case driverHolder:
		t.young.Stop()
		t.lasts()
	case driverKeeper:
		t.guard.Keep()
	}
}

// watch is what the worker does for an ownership that has begun: while the queue has a cache, the
// worker listens to its watch, which the next wait needs. Then it leaves the ownership to its holder
// and the keeper, and does not drive any more. If the ownership has ended by then, the worker finishes
// it.
func (l *localQueue) watch(t *ownership) (drives bool) {
	m := l.manager
	viewed, err := l.single != nil && l.single.Viewed(), error(nil)
	if viewed {
		m.mu.Lock()
		left, kept := t.left.Done(), t.retained.Done()
		m.mu.Unlock()
		err = l.single.Stay(t.lease.Context(), t.entry, left, kept, t.Contended)
	}
	m.mu.Lock()
	switch {
	case t.left.IsSet() || t.life.Cause() != nil:
		m.mu.Unlock()
		l.finish(t)
		return true
	case err != nil:
		l.endWait()
		l.drive(driverKeeper)
	case viewed || t.retained.IsSet():
		l.endWait()
		t.lasts()
	default:
		t.unattended()
	}
	m.mu.Unlock()
	if errors.Is(err, lockerr.ErrEvicted) {
		t.Evicted()
	} else if err != nil {
		t.Unguarded(err)
	}
	return false
}

// Evicted is called when the key is gone. Another session may have the lock already. The present holder
// goes on while the cause is found out, but no other caller gets the ownership any more.
func (t *ownership) Evicted() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admission == closed || !t.found() { // the last holder has deleted it, most likely
		return
	}
	if m.evicted.add(t) {
		m.tasks.Go(m.explain)
	}
}

// evictions are the ownerships with keys that were found deleted, before explain has asked why.
// Manager.mu guards them.
type evictions struct {
	found   []*ownership
	at      time.Time // when the first of them was found
	running bool      // true: explain runs
}

// add returns true if explain is to be started.
func (s *evictions) add(t *ownership) (start bool) {
	if len(s.found) == 0 {
		s.at = time.Now()
	}
	start = !s.running
	s.found, s.running = append(s.found, t), true
	return start
}

// take returns all of them, and until when they are to be explained. If there are none, explain is to end.
func (s *evictions) take() (all []*ownership, until time.Time) {
	all = s.found
	s.found, s.running = nil, len(all) > 0
	return all, s.at.Add(explainWithin)
}

// Unguarded is called when the session may not read its own key any more, so that the lease alone has
// to do. Another session that enters the queue is not noticed either.
func (t *ownership) Unguarded(err error) {
	t.local.manager.cfg.Log.Error("cannot watch the key of a hold; a deletion of the key will not be noticed", zap.String("name", t.local.name), zap.Error(err))
	t.Contended()
}

// explain finds out why keys are gone, and ends the ownerships. It asks once for all that went at one
// instant, as the keys of a lease do. The reason of an eviction is read for a key that went alone. While
// etcd does not answer, keys that go later have less time left to be explained, and no hold continues for
// longer than explainWithin.
func (m *Manager) explain() {
	for {
		m.mu.Lock()
		all, until := m.evicted.take()
		m.mu.Unlock()
		if len(all) == 0 {
			return
		}
		gone := make(map[*lease.Lease][]*queue.Entry)
		for _, t := range all {
			gone[t.lease] = append(gone[t.lease], t.entry)
		}
		causes := make(map[*lease.Lease]error)
		for _, t := range all {
			if causes[t.lease] == nil {
				var alone *queue.Entry
				if len(gone[t.lease]) == 1 {
					alone = t.entry
				}
				causes[t.lease] = m.whyGoneUntil(until, t.lease, alone)
			}
			if t.lease.Err() == nil { // else it has ended, and LeaseLost follows
				t.lose(causes[t.lease])
			}
		}
	}
}

// attend has the worker finish an ownership that the worker does not drive so far. Called with
// Manager.mu held.
func (l *localQueue) attend() {
	if !l.driver.holds() {
		return
	}
	t := l.owned
	l.work(func(l *localQueue) (drives bool) {
		if t != nil { // else its last holder has deleted the key, and there is more to do
			l.finish(t)
		}
		return true
	})
}

// finish deletes the key of an ownership that is to end, or notes its loss; or takes it out of its
// local queue.
func (l *localQueue) finish(t *ownership) {
	m := l.manager
	m.mu.Lock()
	if t.detached() || t.state >= gone { // the last holder has settled it
		m.mu.Unlock()
		return
	}
	t.close() // before all else, or a loss would meet a new holder
	lost, tried := t.life.Cause(), t.tried
	if t == l.owned {
		m.noteLoss(t)
		l.disown(t)
		if lost == nil || t.lease.Context().Err() == nil && len(t.entry.Parts()) > 1 {
			l.become(leaving)
		}
	}
	m.mu.Unlock()
	l.deleteOwned(t, lost, tried)
}

// finishLost finishes all ownerships of leases that have ended.
func (m *Manager) finishLost() {
	m.locals.all.Walk(&m.mu, func(l *localQueue) {
		t := l.owned
		m.noteLoss(t)
		switch {
		case t == nil || !l.driver.holds() || t.lease.Context().Err() == nil:
		case !l.mayRest(t):
			l.attend()
		default:
			t.close()
			t.settleAs(gone, notConfirmed(t.life.Cause()))
			l.rest()
		}
	})
	m.beside.all.Walk(&m.mu, func(t *ownership) {
		m.noteLoss(t)
		if t.lease.Context().Err() != nil && !t.attended {
			t.close()
			t.settleAs(gone, notConfirmed(t.life.Cause()))
		}
	})
}

// mayRest tells whether the local queue is idle once an ownership that the worker does not drive is
// over. Called with Manager.mu held.
func (l *localQueue) mayRest(t *ownership) bool {
	return t == l.owned && l.driver.holds() && l.waiters.Len() == 0 && !l.private() && !l.single.Watches()
}

// leftAlone notes that the last holder has deleted the key of an ownership that it drives, and
// leaves the local queue idle. It returns false if there is more to do. Called with Manager.mu
// held.
func (l *localQueue) leftAlone(t *ownership) bool {
	if !l.mayRest(t) {
		return false
	}
	t.settleAs(gone, nil)
	l.rest()
	return true
}

var _ queue.Owner = (*ownership)(nil)
