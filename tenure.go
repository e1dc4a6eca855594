package etcdlock

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// tenure is a session's time with the lock in etcd: one entry, from its grant to the
// deletion of its key. In between, goroutines of the session hold one after the
// other, handed over in memory; and with retention the key may be kept while none of
// them does.
//
//	granted ──▶ held ──▶ handed over, held again ... ──▶ ended ──▶ the key is deleted
//	              └────▶ kept, nobody holds ──▶ held ──┘  ▲
//	                       └── a stranger, idle ──────────┘
type tenure struct {
	line  *line
	lease *lease.Lease
	entry *queue.Entry
	token int64
	as    string // whom the key's value names

	ctx    context.Context // a child of the lease's; all holds of the tenure end with it
	cancel context.CancelCauseFunc
	stay   context.Context // ends with ctx, or when the tenure is to end
	leave  context.CancelFunc

	// Guarded by session.mu.
	began    time.Duration // by the session's clock
	holding  *Hold         // nil while the key is kept
	ended    bool          // nobody gets it any more
	stranger bool          // another session waits

	kept      chan struct{} // closed when the key is kept for the first time
	idle      time.Time     // since when it is, and
	retention time.Duration // for how long
	timer     *time.Timer   // ends the keeping; nil until it is first needed

	settled chan struct{} // closed when it is known what became of the key
	leftErr error         // set before settled is closed
}

// begin starts a tenure on a granted entry. Called with session.mu held.
func (l *line) begin(ls *lease.Lease, e *queue.Entry, rev int64, as string) *tenure {
	t := &tenure{
		line: l, lease: ls, entry: e, token: rev, as: as,
		began: l.session.cfg.clock(), kept: make(chan struct{}), settled: make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancelCause(ls.Context())
	t.stay, t.leave = context.WithCancel(t.ctx)
	l.tenure = t
	return t
}

// grantTo makes w the holder. Called with session.mu held.
func (t *tenure) grantTo(w *waiter) {
	t.holding = &Hold{tenure: t, values: w.values, terms: w.terms}
	t.line.tell(w, outcome{hold: t.holding})
}

// open tells whether the tenure can have another holder: it goes on, and the lease
// can be relied on. Called with session.mu held.
func (t *tenure) open() bool {
	return t != nil && !t.ended && t.ctx.Err() == nil && t.lease.Err() == nil
}

// released decides who is next, after h was given back. It returns nil if that is
// somebody in this process, or nobody as yet; otherwise the tenure ends, and the
// channel that tells when the key is gone.
func (t *tenure) released(h *Hold) <-chan struct{} {
	s := t.line.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.holding != h {
		return t.settled // it was lost in this instant
	}
	t.holding = nil
	if t.open() {
		front := t.line.front()
		switch {
		case front != nil && front.as == t.as && s.cfg.clock()-t.began < h.terms.slice:
			t.grantTo(front)
			return nil
		case front == nil && h.terms.retention > 0 && !t.stranger && s.state.state == Connected && !s.leaving:
			t.keep(h.terms.retention)
			return nil
		}
	}
	t.end()
	return t.settled
}

// keep leaves the key where it is, for somebody of this session to come, for as long
// as retention and nobody else wants it. Called with session.mu held.
func (t *tenure) keep(retention time.Duration) {
	shorter := retention < t.retention
	t.idle, t.retention = time.Now(), retention
	switch {
	case t.timer == nil:
		close(t.kept)
		t.timer = time.AfterFunc(retention, t.expire)
	case shorter:
		t.timer.Reset(retention)
	default: // it looks at idle when it fires
	}
}

// expire ends a tenure whose key was kept for long enough.
func (t *tenure) expire() {
	s := t.line.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch left := t.retention - time.Since(t.idle); {
	case t.ended:
	case t.holding != nil:
		t.timer.Reset(t.retention)
	case left > 0:
		t.timer.Reset(left)
	default:
		t.end()
	}
}

// take gives w the kept key, without a request. False if there is none to give, or
// if it is somebody else's by its value; then it is on its way out. Called with
// session.mu held.
func (t *tenure) take(w *waiter) (*Hold, bool) {
	if t == nil || t.holding != nil || !t.open() {
		return nil, false
	}
	if t.as != w.as {
		t.end()
		return nil, false
	}
	t.began = t.line.session.cfg.clock() // nobody else wanted it so far
	t.holding = &Hold{tenure: t, values: w.values, terms: w.terms}
	return t.holding, true
}

// yield is called when another session has lined up: a kept key is given up at once,
// and one that is held is not kept afterwards.
func (t *tenure) yield() {
	s := t.line.session
	s.mu.Lock()
	defer s.mu.Unlock()
	t.stranger = true
	t.giveUpKept()
}

// giveUpKept ends the tenure if nobody holds. Called with session.mu held.
func (t *tenure) giveUpKept() {
	if t != nil && t.holding == nil {
		t.end()
	}
}

// end lets nobody else have it, and wakes the line's goroutine to delete the key.
// Called with session.mu held.
func (t *tenure) end() {
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.leave()
}

// lose ends the tenure, and whatever is held under it, for a cause.
func (t *tenure) lose(cause error) { t.cancel(cause) }

// watch watches over a tenure until it ends, and deletes the key.
func (l *line) watch(t *tenure) {
	err := l.queue.Stay(t.stay, t.entry, t.kept, t.yield)
	if errors.Is(err, queue.ErrGone) {
		// Somebody else may have it already. The present holder goes on for as long as it
		// takes to find out why, but nobody gets it any more.
		l.session.mu.Lock()
		t.end()
		l.session.mu.Unlock()
		t.lose(whyGone(t.lease))
	} else if t.stay.Err() == nil {
		// We may not look at our own key any more; then the lease alone has to do.
		l.session.log.Error("cannot watch the key of a hold", zap.String("name", l.name), zap.Error(err))
		<-t.stay.Done()
	}

	l.session.mu.Lock()
	t.end() // before all else, lest a loss meet a new holder
	lost := t.ctx.Err() != nil
	l.tenure = nil
	l.session.mu.Unlock()
	if lost {
		t.leftErr = context.Cause(t.ctx)
		if err := t.lease.Err(); err != nil {
			l.failAll(t.lease, err)
		}
	} else {
		t.leftErr = l.leave(t.lease, t.entry)
		t.cancel(ErrReleased)
	}
	close(t.settled)
}
