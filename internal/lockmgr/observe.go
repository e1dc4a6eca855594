package lockmgr

import (
	"time"
)

// What a caller can learn of its call, and what a user can learn of a manager.

// Path is how a hold was acquired.
type Path uint8

// The paths.
const (
	PathFree     Path = iota // the entry had nothing to wait for
	PathRetained             // the session had kept the key
	PathLocal                // in memory, from or beside another holder of the session
	PathQueued               // the entry waited in etcd
)

// Waiting tells a caller that its request has to wait. It is used for one request.
type Waiting struct {
	tell  func(ahead int)
	ahead chan int // holds one
}

// NewWaiting makes a Waiting. tell is called by the goroutine that waits for the grant, at most once.
// ahead is how many holders and waiters are ahead, as far as that is known, and at least one.
func NewWaiting(tell func(ahead int)) *Waiting {
	return &Waiting{tell: tell, ahead: make(chan int, 1)}
}

// post notes that the request has to wait. Only the first time counts. It never blocks, and may be
// called with Manager.mu held.
func (w *Waiting) post(ahead int) {
	if w == nil {
		return
	}
	select {
	case w.ahead <- max(ahead, 1):
	default:
	}
}

// report calls tell if the request has to wait, before the request has an outcome or its caller gives
// up. It blocks until one of these is known.
func (w *Waiting) report(told, done <-chan struct{}) {
	select {
	case n := <-w.ahead:
		w.tell(n)
		return
	case <-told:
	case <-done:
	}
	select {
	case n := <-w.ahead: // it came in the same instant
		w.tell(n)
	default:
	}
}

// aheadHere is how many callers of the session are ahead of one that joins the local queue now, and
// how many entries are ahead of theirs. Called with Manager.mu held.
func (l *localQueue) aheadHere() (n int) {
	if l.held() {
		n = l.owned.holders
	}
	if l.waiting != nil {
		n += l.waiting.Ahead()
	}
	return n + l.waiters.Len()
}

// Path returns how the hold was acquired.
func (h *Hold) Path() Path { return h.path }

// counts are those of Stats that only grow. They are guarded by Manager.mu.
type counts struct {
	grants   [PathQueued + 1]int64 // by path
	released int64
	lost     int64
}

func (c *counts) granted(by Path) { c.grants[by]++ }
func (c *counts) release()        { c.released++ }
func (c *counts) losing(n int)    { c.lost += int64(n) }

// Stats are counts of a manager. The names are looked at one after the other, so a call or a hold that
// comes or goes meanwhile may be counted or not.
type Stats struct {
	Holds     int                   // of callers
	Oldest    time.Duration         // how long the oldest of them has lasted; 0 if there is none
	Kept      int                   // keys that are kept without a holder
	Waiting   int                   // calls that have no outcome
	Uncertain int                   // keys that a request without an answer may have left
	Grants    [PathQueued + 1]int64 // by path, since the manager was made
	Released  int64                 // holds, since then
	Lost      int64                 // holds, since then
}

// Stats returns the counts. It takes time in proportion to the names in use.
func (m *Manager) Stats() Stats {
	m.look()
	m.mu.Lock()
	s := Stats{Uncertain: m.sweeper.Len(), Grants: m.counts.grants, Released: m.counts.released, Lost: m.counts.lost}
	m.mu.Unlock()
	m.locals.all.Walk(&m.mu, func(l *localQueue) {
		s.Waiting += l.waiters.Len()
		s.add(l.owned)
	})
	m.beside.all.Walk(&m.mu, s.add)
	return s
}

// add counts the holders of an ownership. Called with Manager.mu held.
func (s *Stats) add(t *ownership) {
	switch {
	case t == nil || t.life.Cause() != nil:
	case t.state == kept:
		s.Kept++
	case t.holders > 0:
		s.Holds += t.holders
		s.Oldest = max(s.Oldest, t.local.manager.cfg.Clock()-t.since)
	}
}
