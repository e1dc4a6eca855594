package lockmgr

import "github.com/etcdlock/etcdlock/internal/queue"

// An idle local queue is kept for a while, as the next caller often comes soon. It has a worker only
// while that has to hear what a watch reports.

// count counts or discounts the names of the local queue among those in use. Called with Manager.mu
// held.
func (l *localQueue) count(counted bool) {
	if counted != l.counted {
		l.counted = counted
		l.manager.names.Use(l.names, map[bool]int{false: -1, true: 1}[counted])
	}
}

// forget takes the local queue out of the manager. Called with Manager.mu held.
func (l *localQueue) forget() {
	l.count(false)
	l.manager.locals.remove(l)
}

// checkNesting refuses a name that lies inside another one in use, or around one. The name of an idle
// local queue does not count when it comes to that. Called with m.mu held.
func (m *Manager) checkNesting(name string) error {
	for {
		other, err := m.names.CheckNesting(name)
		l := m.locals.byID[other]
		if err == nil || l == nil || l.phase != idle || !l.counted {
			return err
		}
		l.count(false)
	}
}

// rest leaves the local queue without a driver, for as long as an idle queue is kept. Called with
// Manager.mu held, by the driver.
func (l *localQueue) rest() {
	m := l.manager
	l.served, l.waiting = nil, nil
	l.become(idle)
	l.drive(driverNone)
	switch {
	case m.locals.undriven > MaxIdle || m.admission != open:
		l.forget()
		m.wakeDrain()
	default:
		l.since = m.now()
		if !l.ticks {
			l.ticks = true
			m.restTimer.Set(&l.tick, (*idleTimer)(l))
		}
	}
}

// idleTimer is a local queue. Its timer fires when it may have been idle for long enough.
type idleTimer localQueue

func (i *idleTimer) Fire() {
	l := (*localQueue)(i)
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case l.driver != driverNone || !m.locals.has(l): // rest sets it again
		l.ticks = false
	case m.now()-l.since < queue.Resting:
		m.restTimer.Set(&l.tick, i)
	default:
		l.forget()
	}
}
