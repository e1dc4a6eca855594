package etcdlock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// line is the line of one session's goroutines on one name, in front of the one
// key that the session has in etcd's queue (trap A1). It lives while anybody is in
// it, or a key may be left of it.
//
// One goroutine does everything that concerns the key, one thing after the other:
// enter, await, hold, leave. Callers only join the line, and give up or get a
// grant; so a caller who gives up never costs the next one the place (trap A3),
// and what a caller does not wait for (an answer, a deletion) is still waited for.
type line struct {
	session *Session
	name    string
	queue   *queue.Queue

	// Guarded by session.mu.
	waiters list.List     // of *waiter, in the order in which they came
	holding *Hold         // the last one that was granted
	abandon func()        // ends the wait in etcd, when the last waiter gave up
	joined  chan struct{} // holds one; somebody joined

	// The line's goroutine's own.
	unsure struct { // an enter that got no answer may take effect late
		lease clientv3.LeaseID
		until time.Time
	}
}

// lateEffect is how long a request that was not answered can still be applied:
// etcd's own bound for a proposal is 5 s plus two election timeouts.
const lateEffect = 10 * time.Second

// claim is what somebody wants to hold as.
type claim struct {
	label string                    // an owner, or a candidate's proposal
	value func(label string) string // what is written to the key for it
	try   bool                      // only if nobody else holds or waits
}

// waiter is a caller in the line.
type waiter struct {
	claim
	values  context.Context // of the caller; its values only
	outcome chan outcome    // holds one
	under   *lease.Lease    // that of the session when the waiter came; nil if it had none
	place   *list.Element   // nil once it has an outcome or gave up; guarded by session.mu
}

type outcome struct {
	hold *Hold
	err  error
}

// acquire joins the line of a name and waits for the grant.
func (s *Session) acquire(ctx context.Context, name string, c claim) (*Hold, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	if err := s.usable(name); err != nil {
		return nil, err
	}
	w := &waiter{claim: c, values: ctx, outcome: make(chan outcome, 1)}
	l, err := s.join(name, w)
	if err != nil {
		return nil, err
	}
	select {
	case o := <-w.outcome:
		return o.hold, o.err
	case <-ctx.Done():
		if !l.giveUp(w) {
			// The outcome came in the same instant. The caller wants none any more.
			if o := <-w.outcome; o.hold != nil {
				o.hold.giveBack()
			}
		}
		return nil, contextError(ctx)
	}
}

// usable tells why a session cannot do anything under a name.
func (s *Session) usable(name string) error {
	if s == nil {
		return fmt.Errorf("%w: it is nil", ErrSessionClosed)
	}
	if err := wire.CheckName(name); err != nil {
		return err
	}
	return s.Err()
}

// queue is the queue of a name in etcd.
func (s *Session) queue(name string) *queue.Queue {
	return queue.New(s.client.KV, s.client.Watcher, name, s.log)
}

// join puts w at the end of the line of a name, and makes the line if need be.
func (s *Session) join(name string, w *waiter) (*line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == Closed {
		return nil, ErrSessionClosed
	}
	l := s.lines[name]
	switch {
	case l != nil && w.try && l.taken():
		return nil, fmt.Errorf("%w: another goroutine of this session holds or waits", ErrLocked)
	case l == nil:
		if err := s.checkNesting(name); err != nil {
			return nil, err
		}
		l = &line{
			session: s,
			name:    name,
			queue:   s.queue(name),
			abandon: func() {},
			joined:  make(chan struct{}, 1),
		}
		s.lines[name] = l
		for _, outer := range wire.Ancestors(name) {
			s.inside[outer]++
		}
		s.tasks.Go(l.run)
	}
	if s.leased && s.lease.Err() == nil {
		w.under = s.lease
	}
	w.place = l.waiters.PushBack(w)
	select {
	case l.joined <- struct{}{}:
	default:
	}
	return l, nil
}

// taken tells whether a goroutine of this session holds or waits. It does not when
// the line is only clearing away what an earlier one left. Called with session.mu
// held.
func (l *line) taken() bool {
	return l.waiters.Len() > 0 || l.holding != nil && l.holding.ctx.Err() == nil
}

// checkNesting refuses a name that lies inside another one that is in use by this
// session, or around one. Other sessions' are found in etcd. Called with s.mu held.
func (s *Session) checkNesting(name string) error {
	for _, outer := range wire.Ancestors(name) {
		if s.lines[outer] != nil {
			return fmt.Errorf("%w: this session uses %q, and %q lies inside it", ErrNestedName, outer, name)
		}
	}
	if s.inside[name] > 0 {
		for inner := range s.lines {
			if _, nested := wire.Nested(name, inner+"/"); nested {
				return fmt.Errorf("%w: this session uses %q, and it lies inside %q", ErrNestedName, inner, name)
			}
		}
	}
	return nil
}

// giveUp takes w out of the line; false if it has an outcome already.
func (l *line) giveUp(w *waiter) bool {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	if w.place == nil {
		return false
	}
	l.waiters.Remove(w.place)
	w.place = nil
	if l.waiters.Len() == 0 {
		l.abandon()
	}
	return true
}

// tell gives w its outcome, if it has not given up. Called with session.mu held.
func (l *line) tell(w *waiter, o outcome) {
	if w.place != nil {
		l.waiters.Remove(w.place)
		w.place = nil
		w.outcome <- o
	}
}

// failAll gives one outcome to all who came under a lease; to all there are for nil.
// Who came after a loss had no place that could be lost.
func (l *line) failAll(under *lease.Lease, err error) {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	var next *list.Element
	for e := l.waiters.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); under == nil || w.under == under {
			l.tell(w, outcome{err: err})
		}
	}
}

// run serves the line until nobody is in it and nothing is left of it.
func (l *line) run() {
	for l.next() {
		l.serve()
	}
}

// next blocks until somebody is in the line; false when the line has been closed.
func (l *line) next() bool {
	s := l.session
	for {
		if s.ctx.Err() != nil {
			l.failAll(nil, s.Err())
		}
		s.mu.Lock()
		switch {
		case l.waiters.Len() > 0:
			s.mu.Unlock()
			return true
		case l.unsure.lease == clientv3.NoLease || s.state.state == Closed:
			delete(s.lines, l.name)
			for _, outer := range wire.Ancestors(l.name) {
				if s.inside[outer]--; s.inside[outer] == 0 {
					delete(s.inside, outer)
				}
			}
			s.mu.Unlock()
			return false
		}
		s.mu.Unlock()
		l.sweep()
	}
}

// sweep waits for the time when the late effect of an unanswered enter must have
// come, and takes it back; or returns before, when somebody joins.
func (l *line) sweep() {
	s := l.session
	late := time.NewTimer(time.Until(l.unsure.until))
	defer late.Stop()
	select {
	case <-l.joined:
		return
	case <-s.ctx.Done():
		return
	case <-late.C:
	}
	defer func() { l.unsure.lease = clientv3.NoLease }()
	ls, err := s.awaitLease(s.ctx)
	if err != nil || ls.ID() != l.unsure.lease {
		return // under a lease that is dead, nothing can be written any more
	}
	if err := l.queue.Sweep(ls.Context(), ls.ID()); err != nil && ls.Err() == nil {
		s.log.Error("a key may be left behind until its lease ends", zap.String("name", l.name), zap.Error(err))
	}
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
		var h *Hold
		if h, err = l.grant(ls, entry, rev, first.label); h != nil {
			l.hold(ls, h)
			return
		}
	}
	l.fail(wanted, ls, first, err)
	if entry != nil && ls.Err() == nil {
		_ = l.leave(ls, entry) // logged there
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
	if e := l.waiters.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
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
	e, unsure, err := enter(ls.Context(), ls.ID(), w.value(w.label))
	if unsure {
		l.unsure.lease, l.unsure.until = ls.ID(), time.Now().Add(lateEffect)
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
	waiting, cancel := context.WithCancelCause(ls.Context())
	defer cancel(nil)
	defer context.AfterFunc(wanted, func() { cancel(errUnwanted) })()
	rev, err = l.queue.Await(waiting, e)
	return e, rev, err
}

var errUnwanted = errors.New("nobody waits any more")

// grant gives the entry to the waiter whose turn it is; nil without an error if
// there is none any more. label is for whom the key was written: whoever inherits
// the place gets his own value into the key first.
func (l *line) grant(ls *lease.Lease, e *queue.Entry, rev int64, label string) (*Hold, error) {
	for {
		if err := ls.Err(); err != nil {
			return nil, err
		}
		l.session.mu.Lock()
		front := l.waiters.Front()
		if front == nil {
			l.session.mu.Unlock()
			return nil, nil
		}
		w := front.Value.(*waiter)
		if w.label == label {
			h := newHold(w.values, l.name, ls, e, rev)
			l.holding = h
			l.tell(w, outcome{hold: h})
			l.session.mu.Unlock()
			return h, nil
		}
		l.session.mu.Unlock()
		if err := l.queue.Rewrite(ls.Context(), e, w.value(w.label)); err != nil {
			return nil, err
		}
		label = w.label
	}
}

// hold watches over a hold until it ends, and deletes the key.
func (l *line) hold(ls *lease.Lease, h *Hold) {
	err := l.queue.Stay(h.ctx, h.entry)
	if errors.Is(err, queue.ErrGone) {
		h.end(whyGone(ls))
	} else if h.ctx.Err() == nil {
		// We may not look at our own key any more; then the lease alone has to do.
		l.session.log.Error("cannot watch the key of a hold", zap.String("name", l.name), zap.Error(err))
		<-h.ctx.Done()
	}
	switch cause := h.Err(); {
	case errors.Is(cause, ErrReleased):
		h.settle(l.leave(ls, h.entry))
	default:
		h.settle(cause)
		if ls.Err() != nil {
			l.failAll(ls, ls.Err())
		}
	}
}

// leave deletes the key. Nil when that is confirmed; otherwise what was lost, or
// why etcd refuses it.
func (l *line) leave(ls *lease.Lease, e *queue.Entry) error {
	err := l.queue.Leave(ls.Context(), e)
	switch {
	case err == nil:
		return nil
	case ls.Err() != nil:
		return ls.Err()
	case errors.Is(err, queue.ErrGone):
		return whyGone(ls)
	default:
		l.session.log.Error("cannot delete a key; it stays until its lease ends",
			zap.String("name", l.name), zap.String("key", e.Key), zap.Error(err))
		return err
	}
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
