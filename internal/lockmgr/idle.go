package lockmgr

import (
	"time"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// A local queue that is out of use rests for a while, as the next caller often comes soon; with its
// goroutine (serve.go) only while that has to hear what a watch tells.

// MaxIdle is how many local queues of a session may rest at a time.
const MaxIdle = 512

// rest notes whether the local queue is in use. Its names count as used for longer, as to count
// takes time and mostly leads to nothing: see Session.checkNesting. Called with Manager.mu held.
func (l *localQueue) rest(resting bool) {
	l.resting = resting
	l.count(l.counted || !resting)
}

// count counts the names of the local queue among those in use, or does not. Called with Manager.mu
// held.
func (l *localQueue) count(counted bool) {
	if counted != l.counted {
		l.counted = counted
		l.manager.use(l.names, map[bool]int{false: -1, true: 1}[counted])
	}
}

// forget takes the local queue out of the session. Called with Manager.mu held.
func (l *localQueue) forget() {
	l.count(false)
	delete(l.manager.locals, l.id)
}

// forgetResting counts no local queues that rest, and tells whether that makes a difference. Called
// with m.mu held.
func (m *Manager) forgetResting() (changed bool) {
	for _, l := range m.locals {
		if l.resting && l.counted {
			l.count(false)
			changed = true
		}
	}
	return changed
}

// idle leaves the local queue at rest, without a goroutine, for as long as a queue rests. Called
// with Manager.mu held, by who has the local queue.
func (l *localQueue) idle() {
	m := l.manager
	l.rest(true)
	if m.resting >= MaxIdle {
		l.forget()
	} else {
		l.free, l.since = true, time.Now()
		m.resting++
		if !l.ticks {
			l.ticks = true
			m.restTimer.Set(&l.tick, (*idleTimer)(l))
		}
	}
	m.tasks.Done()
}

// take gives the local queue to who is going to do something about it. Called with Manager.mu held.
func (l *localQueue) take() {
	if l.free {
		l.free = false
		l.manager.resting--
	}
	l.manager.tasks.Add(1)
}

// start gives the local queue to its goroutine. Called with Manager.mu held.
func (l *localQueue) start() {
	l.take()
	go l.run(nil)
}

// idleLine is a local queue that is rung for when it may have rested for long enough.
type idleTimer localQueue

func (i *idleTimer) Fire() {
	l := (*localQueue)(i)
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !l.free: // it is set again when that is at rest
		l.ticks = false
	case time.Since(l.since) < queue.Resting:
		m.restTimer.Set(&l.tick, i)
	default:
		l.free = false
		m.resting--
		l.forget()
	}
}
