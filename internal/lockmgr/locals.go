package lockmgr

import (
	"fmt"

	"github.com/etcdlock/etcdlock/internal/roster"
)

// MaxIdle is the most local queues of a session that are kept while they are idle.
const MaxIdle = 512

// locals are the local queues of a manager. Manager.mu guards them.
type locals struct {
	byID     map[string]*localQueue
	all      roster.List[*localQueue] // the same ones, for work on each of them
	serial   int                      // numbers the private ones
	undriven int                      // those without a driver, and those with a worker that only listens
}

// add adds a local queue without a driver.
func (s *locals) add(l *localQueue) {
	s.byID[l.id] = l
	s.all.Add(l, &l.member)
	s.undriven++
}

// remove removes a local queue.
func (s *locals) remove(l *localQueue) {
	if l.driver == driverNone {
		s.undriven--
	}
	delete(s.byID, l.id)
	s.all.Remove(l.member)
}

// has tells whether a local queue was not removed.
func (s *locals) has(l *localQueue) bool { return s.byID[l.id] == l }

// privateID returns an id for a private local queue. No name has a zero byte.
func (s *locals) privateID() string {
	s.serial++
	return fmt.Sprintf("\x00%d", s.serial)
}

// rests counts one local queue more, or less, that nothing drives, or that has a worker that only listens.
func (s *locals) rests(one bool) {
	if one {
		s.undriven++
	} else {
		s.undriven--
	}
}
