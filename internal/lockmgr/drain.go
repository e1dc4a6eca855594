package lockmgr

import (
	"context"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/states"
)

// Drain admits no further calls, fails those that wait, and blocks until nothing is left in etcd
// but the keys of what is held. In that instant the manager is closed. After an error it continues
// as before.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	if m.drains++; m.admission == open {
		m.admit(draining)
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.drains--; m.drains == 0 && m.admission == draining {
			m.admit(open)
		}
	}()
	for {
		m.look()
		m.mu.Lock()
		over, ends, news := m.admission == closed, m.ends, m.news.Changed()
		m.mu.Unlock()
		if over {
			return nil
		}
		pending := m.pending()
		if pending == 0 {
			m.closeIf(ends) // else an ownership has ended meanwhile
			continue
		}
		select {
		case <-news:
		case <-m.cfg.Life.Done():
			return m.err()
		case <-ctx.Done():
			return fmt.Errorf("%d releases are not confirmed yet, and the session stays open: %w", pending, lockerr.OfContext(ctx))
		}
	}
}

// closeIf closes the manager, unless an ownership has begun to end since ends were counted.
func (m *Manager) closeIf(ends int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ends == m.ends {
		m.admit(closed)
	}
}

// pending ends what Drain does not wait for, and counts what it waits for. While no call is admitted,
// only the end of an ownership makes more of that. If none has ended meanwhile, and nothing was
// counted, nothing is pending. Local queues come first, as an ownership leaves them for the others.
func (m *Manager) pending() (n int) {
	m.locals.all.Walk(&m.mu, func(l *localQueue) {
		l.failWaiters(nil, errDrained)
		l.owned.giveUpKept()
		if l.owned.unmark(errDrained) || !l.owned.open() && l.phase != idle {
			n++
		}
	})
	m.beside.all.Walk(&m.mu, func(t *ownership) {
		if t.unmark(errDrained) || !t.open() {
			n++
		}
	})
	return n + m.requests.Cancel(errDrained) + m.sweeper.Unsettled()
}

// errDrained is the error of calls and waits that a Drain ends: the lease goes to another process.
var errDrained = lockerr.SessionEnded(lockerr.ErrOrphaned)

// admissionState decides what may begin.
type admissionState int

const (
	open     admissionState = iota
	draining                // no call enters, and nothing is kept or left idle
	closed                  // nothing begins
)

func (a admissionState) String() string { return [...]string{"open", "draining", "closed"}[a] }

// admissions are the legal edges between admissions. A manager is open at first:
//
//	from      to        when
//	open      draining  the first of several calls of Drain has begun
//	draining  open      the last of them has failed
//	draining  closed    nothing is pending: a Drain has succeeded
//	any       closed    the session has ended
var admissions = states.Table[admissionState]{Of: "lock manager", Edges: map[admissionState][]admissionState{
	open:     {draining, closed},
	draining: {open, closed},
}}

// admit changes the admission. It is the one place where the admission changes. Called with m.mu
// held.
func (m *Manager) admit(to admissionState) {
	if to == m.admission {
		return
	}
	if err := admissions.Check(m.admission, to); err != nil {
		m.cfg.Fail(err)
		return
	}
	m.admission = to
	if to == closed {
		m.sweeper.Close()
	}
}

// admits is the error of a call that is not admitted; nil if it is. Called with m.mu held.
func (m *Manager) admits() error {
	switch m.admission {
	case closed:
		return lockerr.ErrSessionClosed
	case draining:
		return errDrained
	default:
		return nil
	}
}
