package etcdlock

import (
	"time"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// A line that is out of use rests for a while, as the next caller often comes soon; with its
// goroutine (serve.go) only while that has to hear what a watch tells.

// maxResting is how many lines of a session may rest at a time.
const maxResting = 512

// rest notes whether the line is in use. Its names count as used for longer, as to count
// takes time and mostly leads to nothing: see Session.checkNesting. Called with session.mu held.
func (l *line) rest(resting bool) {
	l.resting = resting
	l.count(l.counted || !resting)
}

// count counts the names of the line among those in use, or does not. Called with session.mu held.
func (l *line) count(counted bool) {
	if counted != l.counted {
		l.counted = counted
		l.session.use(l.names, map[bool]int{false: -1, true: 1}[counted])
	}
}

// forget takes the line out of the session. Called with session.mu held.
func (l *line) forget() {
	l.count(false)
	delete(l.session.lines, l.id)
}

// forgetResting counts no lines that rest, and tells whether that makes a difference. Called with
// s.mu held.
func (s *Session) forgetResting() (changed bool) {
	for _, l := range s.lines {
		if l.resting && l.counted {
			l.count(false)
			changed = true
		}
	}
	return changed
}

// idle leaves the line at rest, without a goroutine, for as long as a queue rests. Called with
// session.mu held, by who has the line.
func (l *line) idle() {
	s := l.session
	l.rest(true)
	if s.resting >= maxResting {
		l.forget()
	} else {
		l.free, l.since = true, time.Now()
		s.resting++
		if !l.ticks {
			l.ticks = true
			s.rested.Set(&l.tick, (*idleLine)(l))
		}
	}
	s.tasks.Done()
}

// take gives the line to who is going to do something about it. Called with session.mu held.
func (l *line) take() {
	if l.free {
		l.free = false
		l.session.resting--
	}
	l.session.tasks.Add(1)
}

// start gives the line to its goroutine. Called with session.mu held.
func (l *line) start() {
	l.take()
	go l.run(nil)
}

// idleLine is a line that is rung for when it may have rested for long enough.
type idleLine line

func (i *idleLine) Fire() {
	l := (*line)(i)
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !l.free: // it is set again when that is at rest
		l.ticks = false
	case time.Since(l.since) < queue.Resting:
		s.rested.Set(&l.tick, i)
	default:
		l.free = false
		s.resting--
		l.forget()
	}
}
