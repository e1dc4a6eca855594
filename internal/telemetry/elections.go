package telemetry

import (
	"sync"
	"time"
)

// Leaders counts changes of leaders, and measures the time without one. Each Run of an election observes
// it. The observation of one Run that another Run has made already is skipped. The revisions of one Run
// become smaller if etcd was restored from a backup.
type Leaders struct {
	mu   sync.Mutex // guards the field below
	seen map[string]observed
}

// Leader is what a Run has seen of an election.
type Leader struct {
	CreateRevision int64 // 0: there is none
	Revision       int64 // of the observation
	Run            int64 // the Run that has made it
}

// observed is the last leader of an election, as this process has seen it.
type observed struct {
	Leader
	since time.Time
}

// See reports whether the leader of an election has changed to another one, and how long there was none
// before. The elections of Other are several, whose leaders are not changes of each other.
func (l *Leaders) See(name string, now Leader, at time.Time) (changed bool, vacant time.Duration) {
	if name == Other {
		return false, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last, seen := l.seen[name]
	if seen && last.Run != now.Run && now.Revision <= last.Revision {
		return false, 0
	}
	if l.seen == nil {
		l.seen = make(map[string]observed)
	}
	same := seen && last.CreateRevision == now.CreateRevision
	if same {
		at = last.since
	}
	l.seen[name] = observed{now, at}
	if !seen || same || now.CreateRevision == 0 {
		return false, 0
	}
	if last.CreateRevision == 0 {
		vacant = at.Sub(last.since)
	}
	return true, vacant
}

// Stuck knows the terms of which the work is stuck.
type Stuck struct {
	mu    sync.Mutex // guards the field below
	terms map[term]int
}

// term is one term. Two elections of one name, in two clusters of etcd, can have equal ones.
type term struct {
	election       string
	createRevision int64
}

// Add notes a term of which the work is stuck.
func (s *Stuck) Add(election string, createRevision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terms == nil {
		s.terms = make(map[term]int)
	}
	s.terms[term{election, createRevision}]++
}

// Returned forgets a term, and reports whether its work was stuck.
func (s *Stuck) Returned(election string, createRevision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := term{election, createRevision}
	n := s.terms[of]
	if n <= 1 {
		delete(s.terms, of)
	} else {
		s.terms[of]--
	}
	return n > 0
}
