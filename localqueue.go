package etcdlock

import (
	"container/list"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// localQueue is the localQueue of one session's goroutines on one name, in front of the one
// key that the session has in etcd's queue (trap A1). It lives while anybody is in
// it, or a key may be left of it.
//
// One goroutine does everything that concerns the key, one thing after the other:
// enter, await, watch, leave (serve.go). Callers only join the localQueue, and give up or get a
// grant; so a caller who gives up never costs the next one the place (trap A3),
// and what a caller does not wait for (an answer, a deletion) is still waited for. While there
// is nothing to wait for there is no goroutine either, and a caller begins (fast.go).
//
// Who can hold beside others (a reader, permits) has a key of his own, in another slot. The
// localQueue waits for one of them after the other; those that are granted have left it, and their
// ownerships are watched over by goroutines of their own (beside.go).
//
// A caller who needs a place in etcd for himself alone, as for several names at once, has a
// localQueue of his own, which nobody else joins.
type localQueue struct {
	manager *manager
	id      string // in manager.lines: the name, or something that is no name for a local queue of one caller's own
	name    string
	names   []string    // the one, or all that are held at once
	slots   []wire.Slot // of a local queue of one's own: those of the keys under the names
	queue   place
	single  *queue.Queue // the same, unless it is several

	// Guarded by manager.mu.
	waiters list.List         // of *waiter, in the order in which they came
	wanted  *lazyctx.Context  // ends when nobody is left whom the wait in etcd serves; nil while there is none
	served  *waiter           // for whom the present entry is; nil while there is none
	blocked bool              // it has to wait
	waiting *queue.Entry      // the present entry, once it has to wait
	tenure  *ownership        // nil while the session has not got the lock
	joined  chan struct{}     // holds one; somebody joined, or it is to rest no longer
	resting bool              // nobody is in it, and nothing is left of it in etcd
	counted bool              // among the names in use; if it rests, until that matters
	free    bool              // and nobody has it, see fast.go
	since   time.Time         // when it came to rest
	tick    sharedtimer.Timer // when it may have rested for long enough
	ticks   bool              // that is set

	stirred chan struct{}             // holds one; something has happened to an ownership that is quiet
	young   atomic.Pointer[ownership] // that nobody looks after yet; nil for none

	record  record            // of the entry that waits
	settled sharedtimer.Timer // when its ownership has lasted for a while

	legacy legacy // what was found of the former process when the present entry was written
}

// place is a queue in etcd, or several that are entered at once.
type place interface {
	Enter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	TryEnter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	Granted(context.Context, *queue.Entry) (granted bool, rev int64, err error)
	Await(context.Context, *queue.Entry) (rev int64, err error)
	Stay(ctx context.Context, e *queue.Entry, settle time.Duration, kept <-chan struct{}, company func()) error
	Rewrite(ctx context.Context, e *queue.Entry, value string) error
	Leave(ctx context.Context, e *queue.Entry, tried bool) error
	LeaveOnce(context.Context, *queue.Entry) (deleted bool, err error)
	Rest(wake <-chan struct{}) (woken bool)
	Close()
}

// claim is what somebody wants to hold as.
type claim struct {
	as    string        // kind and owner, or kind and proposal: who has the same may have the key as it is
	own   func() string // what is written to the key for it; nil: restate of want
	try   bool          // only if nobody else holds or waits
	terms terms

	mode    wire.Mode
	permits int // of wire.Counted
	want    *wire.Holder
	owner   string
	who     wire.Identity
	held    *carried // what the caller holds already

	rule      *queue.Rule // of who can hold beside others; nil for who cannot
	candidate bool        // of an election
	rank      wire.Slot   // of a candidate: its priority

	cycle *string // the prefix under which a cycle of waits is looked for; nil: it is not
}

// terms are for how long a session may keep to itself what it holds.
type terms struct {
	slice     time.Duration // how long it is handed over in memory, from one goroutine to the next
	retention time.Duration // how long it is kept while no goroutine holds
	reentry   int           // how many holds a turn may have; below 1: no re-entry
}

// waiter is a caller in the local queue.
type waiter struct {
	claim
	values  context.Context // of the caller; its values only
	given   outcome         // once it has one; guarded by manager.mu
	told    lazyctx.Latch   // it has
	carried *carried        // what the caller holds already
	under   *lease.Lease    // that of the session when the waiter came; nil if it had none
	place   *list.Element   // nil once it has an outcome or gave up; guarded by manager.mu
}

type outcome struct {
	hold *hold
	err  error
}

// acquire waits for a grant of a name.
func (s *Session) acquire(ctx context.Context, name string, c claim) (*hold, error) {
	if ctx.Err() != nil {
		return nil, lockerr.OfContext(ctx)
	}
	if err := s.usable(name); err != nil {
		return nil, err
	}
	h, err := s.manager.acquire(ctx, name, c)
	if granted := s.cfg.Hooks.Granted; granted != nil && err == nil {
		granted(h, []string{name})
	}
	return h, err
}

// acquire joins the local queue of a name and waits for the grant.
func (m *manager) acquire(ctx context.Context, name string, c claim) (*hold, error) {
	w := &waiter{claim: c, values: ctx, carried: carriedBy(ctx)}
	if h, err := w.nested(m, name); h != nil || err != nil {
		return h, err
	}
	l, first, h, err := m.join(name, w)
	if h != nil || err != nil {
		return h, err
	}
	if first != nil {
		if h := l.enterAlone(ctx, first); h != nil {
			return h, nil
		}
	}
	return l.await(ctx, w)
}

// await waits for the grant.
func (l *localQueue) await(ctx context.Context, w *waiter) (*hold, error) {
	l.manager.mu.Lock()
	told := w.told.Done()
	l.manager.mu.Unlock()
	select {
	case <-told:
		return w.given.hold, w.given.err
	case <-ctx.Done():
		given, locked := l.giveUp(w)
		if !given && w.given.hold != nil {
			// The outcome came in the same instant. The caller wants none any more.
			w.given.hold.abandon()
		}
		return nil, waitError(ctx, locked)
	}
}

// usable tells why a session cannot do anything under a name.
func (s *Session) usable(name string) error {
	if s == nil || s.engine == nil {
		return errNotASession
	}
	check := wire.CheckName
	if s.cfg.foreignNames {
		check = wire.CheckForeignName
	}
	if err := check(name); err != nil {
		return err
	}
	return s.Err()
}

// join puts w at the end of the local queue of a name, and makes the local queue if need be. It
// returns the hold at once when the session has the key and nobody is in the local queue; and an
// attempt that w has to make when nobody else sees to the local queue.
func (m *manager) join(name string, w *waiter) (*localQueue, *attempt, *hold, error) {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admits(); err != nil {
		return nil, nil, nil, err
	}
	l := m.lines[name]
	if l == nil || l.waiters.Len() == 0 {
		if h, ok := m.atOnce(l, name, w); ok {
			return nil, nil, h, nil
		}
	}
	if l != nil && w.try && l.refuses(w) {
		return nil, nil, nil, l.refusesHere()
	}
	switch {
	case l == nil || l.resting && !l.counted:
		if err := m.checkNesting(name); err != nil {
			return nil, nil, nil, err
		}
		if l == nil {
			l = m.addLine(name, name)
			l.enlist(w)
			return l, l.attempt(w), nil, nil
		}
	case w.cycle != nil && w.carried != nil && l.taken():
		l = m.ownLine(name) // a wait in memory would be seen by nobody
	}
	l.enlist(w)
	if l.free {
		return l, l.attempt(w), nil, nil
	}
	l.wake()
	return l, nil, nil, nil
}

// atOnce gives w a hold under a key that the session has, if it may. Called with m.mu
// held.
func (m *manager) atOnce(l *localQueue, name string, w *waiter) (*hold, bool) {
	if l != nil && w.rule != nil {
		l.tenure.giveUpKept() // it is kept for who wants it alone
	}
	switch {
	case w.mode == wire.Shared:
		return m.readers[name].share(w)
	case l == nil || w.rule != nil:
		return nil, false
	default:
		return l.tenure.take(w)
	}
}

// addLine makes a local queue, which nobody has. Called with m.mu held.
func (m *manager) addLine(id string, names ...string) *localQueue {
	l := &localQueue{
		manager: m,
		id:      id,
		name:    names[0],
		names:   names,
		counted: true,
		joined:  make(chan struct{}, 1),
		stirred: make(chan struct{}, 1),
	}
	if l.own() {
		for _, name := range names {
			l.slots = append(l.slots, m.slots.take(name, wire.Slot{}))
		}
	}
	if len(names) > 1 {
		l.queue = m.queues.Set(names, l.slots)
	} else {
		l.single = m.queues.Queue(names[0])
		l.queue = l.single
	}
	m.lines[id] = l
	m.use(names, 1)
	return l
}

// ownLine makes a local queue that nobody else joins. Called with m.mu held.
func (m *manager) ownLine(names ...string) *localQueue {
	m.serial++
	l := m.addLine(fmt.Sprintf("\x00%d", m.serial), names...) // no name has a zero byte
	l.start()
	return l
}

// own tells whether this is a local queue that nobody else joins.
func (l *localQueue) own() bool { return l.id != l.name }

// enlist puts w at the end of the local queue. Called with manager.mu held.
func (l *localQueue) enlist(w *waiter) {
	l.rest(false)
	if ls := l.manager.lease.Load(); ls != nil && ls.Context().Err() == nil {
		w.under = ls
	}
	w.place = l.waiters.PushBack(w)
}

// wake wakes the local queue's goroutine if it rests.
func (l *localQueue) wake() {
	select {
	case l.joined <- struct{}{}:
	default:
	}
}

// stir has the local queue's goroutine look after its ownership, if that is quiet.
func (l *localQueue) stir() {
	if l.attend() {
		return
	}
	select {
	case l.stirred <- struct{}{}:
	default:
	}
}

// Fire stirs it when the ownership has lasted for a while.
func (l *localQueue) Fire() { l.stir() }

// taken tells whether a goroutine of this session holds or waits. It does not when
// the local queue is only clearing away what an earlier one left. Called with manager.mu
// held.
func (l *localQueue) taken() bool {
	return l.waiters.Len() > 0 || l.held()
}

// held tells whether a goroutine of this session holds alone. Called with manager.mu held.
func (l *localQueue) held() bool {
	return l.tenure != nil && l.tenure.turns > 0 && l.tenure.life.Cause() == nil
}

// refuses tells whether somebody is ahead of w who does not want to wait. Those who can hold
// beside each other are, in a local queue, ahead of each other only when they have to wait. Called
// with manager.mu held.
func (l *localQueue) refuses(w *waiter) bool {
	if w.rule == nil || l.held() {
		return l.taken()
	}
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		if e.Value.(*waiter).rule == nil {
			return true
		}
	}
	return l.blocked && l.waiters.Len() > 0
}

// refusesHere is the error of a waiter that is refused for others of its session. Called with
// manager.mu held.
func (l *localQueue) refusesHere() *LockedError {
	if l.held() {
		return l.inTheWay()
	}
	return lockedHere(nil)
}

// waitsWith notes by which entry the local queue waits in etcd.
func (l *localQueue) waitsWith(e *queue.Entry) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.waiting = e
}

// block notes that the present entry has to wait, and refuses those who do not want to.
func (l *localQueue) block(e *queue.Entry) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.blocked, l.waiting = true, e
	var next *list.Element
	for e := l.waiters.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); w.try {
			l.tell(w, outcome{err: lockedHere(nil)})
		}
	}
}

// giveUp takes w out of the local queue, and tells who was ahead of it, nil if that is not known;
// false if it has an outcome already.
func (l *localQueue) giveUp(w *waiter) (bool, *LockedError) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	if w.place == nil {
		return false, nil
	}
	locked := l.inTheWay()
	first := l.front() == w
	l.waiters.Remove(w.place)
	w.place = nil
	switch next := l.front(); {
	case next == nil || l.served != nil && !next.inherits(l.served):
		l.unwanted() // the entry is of no use any more, and in others' way
	case first && (w.carried != nil || next.carried != nil):
		l.record.outdated()
	}
	return true, locked
}

// tell gives w its outcome, if it has not given up. Called with manager.mu held.
func (l *localQueue) tell(w *waiter, o outcome) {
	if w.place != nil {
		l.waiters.Remove(w.place)
		w.place = nil
		w.given = o
		w.told.Set()
	}
}

// front is the waiter whose turn it is; nil if there is none. Called with manager.mu
// held.
func (l *localQueue) front() *waiter {
	if e := l.waiters.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
}

// failAll gives one outcome to all who came under a lease; to all there are for nil.
// Who came after a loss had no place that could be lost.
func (l *localQueue) failAll(under *lease.Lease, err error) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.failWaiters(under, err)
}

// failWaiters is failAll with manager.mu held.
func (l *localQueue) failWaiters(under *lease.Lease, err error) {
	var next *list.Element
	for e := l.waiters.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); under == nil || w.under == under {
			l.tell(w, outcome{err: err})
		}
	}
	if l.waiters.Len() == 0 {
		l.unwanted() // the wait in etcd has no purpose any more
	}
}
