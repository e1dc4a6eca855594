package etcdlock

import (
	"container/list"
	"context"
	"fmt"
	"time"

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
// enter, await, watch, leave (serve.go). Callers only join the line, and give up or get a
// grant; so a caller who gives up never costs the next one the place (trap A3),
// and what a caller does not wait for (an answer, a deletion) is still waited for.
type line struct {
	session *Session
	name    string
	queue   *queue.Queue

	// Guarded by session.mu.
	waiters list.List     // of *waiter, in the order in which they came
	abandon func()        // ends the wait in etcd, when the last waiter gave up
	tenure  *tenure       // nil while the session has not got the lock
	joined  chan struct{} // holds one; somebody joined, or it is to rest no longer
	doubt   bool          // a key may be left that nobody knows of, see unsure
	resting bool          // nobody is in it, and nothing is left of it in etcd

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
	as    string        // kind and owner, or kind and proposal: who has the same may have the key as it is
	value func() string // what is written to the key for it
	try   bool          // only if nobody else holds or waits
	terms terms
}

// terms are for how long a session may keep to itself what it holds.
type terms struct {
	slice     time.Duration // how long it is handed over in memory, from one goroutine to the next
	retention time.Duration // how long it is kept while no goroutine holds
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
	w := &waiter{claim: c, values: ctx}
	l, h, err := s.join(name, w)
	if h != nil || err != nil {
		return h, err
	}
	select {
	case o := <-w.outcome:
		return o.hold, o.err
	case <-ctx.Done():
		if !l.giveUp(w) {
			// The outcome came in the same instant. The caller wants none any more.
			if o := <-w.outcome; o.hold != nil {
				o.hold.abandon()
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
	return queue.New(s.ctx, s.writer, s.client.Watcher, name, s.log)
}

// join puts w at the end of the line of a name, and makes the line if need be. It
// returns the hold at once when the session has the key and nobody is in the line.
func (s *Session) join(name string, w *waiter) (*line, *Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state.state == Closed:
		return nil, nil, ErrSessionClosed
	case s.leaving > 0:
		return nil, nil, errOrphaned
	}
	l := s.lines[name]
	if l != nil && l.waiters.Len() == 0 {
		if h, ok := l.tenure.take(w); ok {
			return nil, h, nil
		}
	}
	switch {
	case l != nil && w.try && l.taken():
		return nil, nil, fmt.Errorf("%w: another goroutine of this session holds or waits", ErrLocked)
	case l == nil || l.resting:
		if err := s.checkNesting(name); err != nil {
			return nil, nil, err
		}
	}
	if l == nil {
		l = &line{
			session: s,
			name:    name,
			queue:   s.queue(name),
			abandon: func() {},
			joined:  make(chan struct{}, 1),
		}
		s.lines[name] = l
		l.count(1)
		s.tasks.Go(l.run)
	}
	l.rest(false)
	if s.leased && s.lease.Err() == nil {
		w.under = s.lease
	}
	w.outcome = make(chan outcome, 1)
	w.place = l.waiters.PushBack(w)
	l.wake()
	return l, nil, nil
}

// wake wakes the line's goroutine if it rests.
func (l *line) wake() {
	select {
	case l.joined <- struct{}{}:
	default:
	}
}

// rest notes whether the line is in use. Called with session.mu held.
func (l *line) rest(resting bool) {
	if resting != l.resting {
		l.resting = resting
		l.count(map[bool]int{true: -1, false: 1}[resting])
	}
}

// count counts the line, or discounts it, as one inside of its outer names. Called with
// session.mu held.
func (l *line) count(n int) {
	for _, outer := range wire.Ancestors(l.name) {
		if l.session.inside[outer] += n; l.session.inside[outer] == 0 {
			delete(l.session.inside, outer)
		}
	}
}

// taken tells whether a goroutine of this session holds or waits. It does not when
// the line is only clearing away what an earlier one left. Called with session.mu
// held.
func (l *line) taken() bool {
	return l.waiters.Len() > 0 || l.tenure != nil && l.tenure.holding != nil && l.tenure.holding.over() == nil
}

// checkNesting refuses a name that lies inside another one that is in use by this
// session, or around one. Other sessions' are found in etcd. Called with s.mu held.
func (s *Session) checkNesting(name string) error {
	for _, outer := range wire.Ancestors(name) {
		if o := s.lines[outer]; o != nil && !o.resting {
			return fmt.Errorf("%w: this session uses %q, and %q lies inside it", ErrNestedName, outer, name)
		}
	}
	if s.inside[name] > 0 {
		for inner, l := range s.lines {
			if _, nested := wire.Nested(name, inner+"/"); nested && !l.resting {
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

// front is the waiter whose turn it is; nil if there is none. Called with session.mu
// held.
func (l *line) front() *waiter {
	if e := l.waiters.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
}

// failAll gives one outcome to all who came under a lease; to all there are for nil.
// Who came after a loss had no place that could be lost.
func (l *line) failAll(under *lease.Lease, err error) {
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	l.failWaiters(under, err)
}

// failWaiters is failAll with session.mu held.
func (l *line) failWaiters(under *lease.Lease, err error) {
	var next *list.Element
	for e := l.waiters.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); under == nil || w.under == under {
			l.tell(w, outcome{err: err})
		}
	}
	if l.waiters.Len() == 0 {
		l.abandon() // the wait in etcd has no purpose any more
	}
}
