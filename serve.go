package etcdlock

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// run serves the line until nobody is in it and nothing is left of it.
func (l *line) run() {
	defer l.queue.Close()
	for l.next() {
		l.serve()
	}
}

// maxResting is how many lines of a session may rest at a time.
const maxResting = 64

// next blocks until somebody is in the line; false when the line has been closed. A
// line that is out of use rests for a moment first, as the next caller often comes soon:
// with its goroutine, and perhaps its view of the queue.
func (l *line) next() bool {
	s := l.session
	for rested := false; ; {
		if s.ctx.Err() != nil {
			l.failAll(nil, s.Err())
		}
		s.mu.Lock()
		closing := s.state.state == Closed
		switch {
		case l.waiters.Len() > 0:
			s.mu.Unlock()
			return true
		case l.doubt && !closing:
			l.drain()
			s.mu.Unlock()
			l.sweep()
		case !rested && !closing && s.leaving == 0 && s.resting < maxResting:
			l.rest(true)
			l.drain()
			s.resting++
			s.mu.Unlock()
			rested = !l.queue.Rest(l.joined)
			s.mu.Lock()
			s.resting--
			s.mu.Unlock()
		default:
			l.rest(true)
			delete(s.lines, l.name)
			if s.leaving > 0 {
				s.changed() // Orphan waits for this
			}
			s.mu.Unlock()
			return false
		}
	}
}

// drain takes back a wake-up that is of no use any more. Called with session.mu held.
func (l *line) drain() {
	select {
	case <-l.joined:
	default:
	}
}

// sweep waits for the time when the late effect of an unanswered enter must have
// come, and takes it back; or returns before, when somebody joins.
func (l *line) sweep() {
	s := l.session
	l.queue.Close()
	late := time.NewTimer(time.Until(l.unsure.until))
	defer late.Stop()
	select {
	case <-l.joined:
		return
	case <-s.ctx.Done():
		return
	case <-late.C:
	}
	ls, err := s.awaitLease(s.ctx)
	if err == nil && ls.ID() == l.unsure.lease { // under a dead lease nothing can be left
		if err := l.queue.Sweep(ls.Context(), ls.ID()); err != nil && ls.Err() == nil {
			l.later(ls)
			return
		}
	}
	s.mu.Lock()
	l.doubt = false
	s.mu.Unlock()
}

// serve brings one waiter to its end: a grant that is over, or an error. On the
// way it may become another waiter's turn, if the first gives up.
func (l *line) serve() {
	wanted, done := l.want()
	defer done()

	ls, err := l.session.awaitLease(wanted)
	if err != nil {
		return // nobody wants it any more, or the session has ended
	}
	first := l.first(ls)
	if first == nil {
		return
	}
	entry, rev, err := l.enter(wanted, ls, first)
	if err == nil {
		var t *tenure
		if t, err = l.grant(ls, entry, rev, first.as); t != nil {
			l.watch(t)
			return
		}
	}
	l.fail(wanted, ls, first, err)
	if entry != nil && ls.Err() == nil {
		_ = l.leave(ls, entry, false) // logged there
	}
}

// want returns a context that ends when nobody is in the line any more.
func (l *line) want() (context.Context, func()) {
	wanted, cancel := context.WithCancel(l.session.ctx)
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	l.abandon = cancel
	if l.waiters.Len() == 0 {
		cancel()
	}
	return wanted, func() {
		l.session.mu.Lock()
		defer l.session.mu.Unlock()
		l.abandon = func() {}
		cancel()
	}
}

// first is the waiter whose turn it is, nil if there is none; all of them wait under
// this lease from now on.
func (l *line) first(ls *lease.Lease) *waiter {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		e.Value.(*waiter).under = ls
	}
	return l.front()
}

// enter puts the session's key into the queue and waits until it may go in; rev is
// the proof. The requests run under the lease, not under a caller's context: one
// that were cancelled could still be applied, after we had looked for its traces
// (traps A4, B2). An entry that is returned with an error stands in etcd.
func (l *line) enter(wanted context.Context, ls *lease.Lease, w *waiter) (e *queue.Entry, rev int64, err error) {
	enter := l.queue.Enter
	if w.try {
		enter = l.queue.TryEnter
	}
	e, unsure, err := enter(ls.Context(), ls.ID(), w.value())
	if unsure {
		l.later(ls)
	}
	switch {
	case err != nil:
		return e, 0, err
	case w.try:
		granted, rev, err := l.queue.Granted(ls.Context(), e)
		if err == nil && !granted {
			err = queue.ErrTaken
		}
		return e, rev, err
	}
	if e.First() {
		return e, e.CreateRevision, nil
	}
	waiting, cancel := context.WithCancelCause(ls.Context())
	defer cancel(nil)
	defer context.AfterFunc(wanted, func() { cancel(errUnwanted) })()
	rev, err = l.queue.Await(waiting, e)
	return e, rev, err
}

var errUnwanted = errors.New("nobody waits any more")

// grant gives the entry to the waiter whose turn it is; nil without an error if
// there is none any more. as is for whom the key was written: whoever inherits
// the place gets his own value into the key first.
func (l *line) grant(ls *lease.Lease, e *queue.Entry, rev int64, as string) (*tenure, error) {
	for {
		if err := ls.Err(); err != nil {
			return nil, err
		}
		l.session.mu.Lock()
		w := l.front()
		if w == nil {
			l.session.mu.Unlock()
			return nil, nil
		}
		if w.as == as {
			t := l.begin(ls, e, rev, as)
			t.grantTo(w)
			l.session.mu.Unlock()
			return t, nil
		}
		l.session.mu.Unlock()
		if err := l.queue.Rewrite(ls.Context(), e, w.value()); err != nil {
			return nil, err
		}
		as = w.as
	}
}

// leave deletes the key. Nil when that is confirmed; otherwise what was lost, or
// why etcd refuses it. tried says that it may be gone by an earlier try of ours.
func (l *line) leave(ls *lease.Lease, e *queue.Entry, tried bool) error {
	err := l.queue.Leave(ls.Context(), e, tried)
	switch {
	case err == nil:
		return nil
	case ls.Err() != nil:
		return ls.Err()
	case errors.Is(err, queue.ErrGone):
		return whyGone(ls)
	default:
		l.session.log.Error("etcd refuses to delete a key; trying again until its lease ends",
			zap.String("name", l.name), zap.String("key", e.Key), zap.Error(err))
		l.later(ls)
		return err
	}
}

// later has the line look for a key that may be left behind, when its time has come.
func (l *line) later(ls *lease.Lease) {
	l.unsure.lease, l.unsure.until = ls.ID(), time.Now().Add(lateEffect)
	l.session.mu.Lock()
	l.doubt = true
	l.session.mu.Unlock()
}

// whyGone tells why a key of ours is gone: with its lease, which then ends, or
// alone. The question must not take long, as the hold goes on meanwhile.
func whyGone(ls *lease.Lease) error {
	ctx, cancel := context.WithTimeout(ls.Context(), 500*time.Millisecond)
	defer cancel()
	ls.Verify(ctx)
	if err := ls.Err(); err != nil {
		return err
	}
	return lease.Lost(ErrEvicted)
}

// fail tells those concerned why nothing was granted.
func (l *line) fail(wanted context.Context, ls *lease.Lease, first *waiter, err error) {
	switch {
	case errors.Is(err, queue.ErrGone):
		l.failAll(ls, whyGone(ls)) // the place is lost, and it was that of all
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		ls.End(lease.Lost(ErrRevoked))
		l.failAll(ls, ls.Err())
	case ls.Err() != nil:
		l.failAll(ls, ls.Err())
	case err == nil || wanted.Err() != nil:
		// Nobody is there to be told.
	default:
		if errors.Is(err, queue.ErrTaken) {
			err = ErrLocked
		}
		l.session.mu.Lock()
		l.tell(first, outcome{err: err})
		l.session.mu.Unlock()
	}
}
