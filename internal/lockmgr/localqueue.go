package lockmgr

import (
	"container/list"
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// localQueue is the queue of one session's goroutines on one name, in front of the one key that the
// session has in etcd's queue (trap A1). It lives while a caller is in it, or a key of it may stand,
// and for a moment longer, see idle.go.
//
// The worker does everything that concerns the key and has to be waited for, one step after the other:
// enter, await, leave (worker.go). Callers only join the local queue, and give up or get a grant. A
// caller that gives up therefore never costs the next one its place (trap A3), and an answer or a
// deletion that a caller does not wait for is still waited for. While there is nothing to wait for,
// there is no worker: the next caller drives the local queue itself (fastpath.go), and the keeper of
// the session watches the keys of all holds (guarded.go).
//
// A request that can be held beside others (a reader, permits) has a key of its own, in another
// slot. The local queue waits for one of them after the other. A granted one leaves the local queue
// (shared.go).
//
// A call that needs a place of its own in etcd, such as one for several names at once, has a private
// local queue, which no other call joins.
type localQueue struct {
	manager *Manager
	member  int    // in locals.all; guarded by Manager.mu
	id      string // in locals.byID: the name, or for a private local queue something that is no name
	name    string
	names   []string    // the one, or all that are held at once
	slots   []wire.Slot // of a private local queue: those of the keys under the names
	queue   place
	single  *queue.Queue // the same queue; nil for several names

	// Guarded by Manager.mu.
	waiters list.List         // of *waiter, in the order of their calls
	wanted  *lazyctx.Context  // ends when no waiter is left for the wait in etcd; nil while there is none
	served  *waiter           // the waiter that the present entry was written for; nil while there is none
	waiting *queue.Entry      // the present entry, once it has to wait
	owned   *ownership        // nil while the session does not own the lock
	joined  chan struct{}     // holds one; sent when a waiter joins an idle queue; nil before the worker listens
	since   time.Duration     // when it became idle
	tick    sharedtimer.Timer // fires when it may have been idle for long enough
	ticks   bool              // true: tick is set
	counted bool              // true: it is among the names in use; an idle queue is until that matters
	phase   phase             // changed by become
	driver  driver            // changed by drive

	info holdInfo // of the entry that waits
}

// place is a queue in etcd, or several that are entered at once.
type place interface {
	Enter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	TryEnter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	Granted(context.Context, *queue.Entry) (granted bool, rev int64, err error)
	Await(context.Context, *queue.Entry) (rev int64, err error)
	Guard(*queue.Keeper, *queue.Entry, queue.Owner) *queue.Guard
	Rewrite(ctx context.Context, e *queue.Entry, value string) error
	Leave(ctx context.Context, e *queue.Entry, tried bool) error
	LeaveOnce(context.Context, *queue.Entry) (deleted bool, err error)
	Rest(wake <-chan struct{}) (woken bool)
	Close()
}

// private tells whether this is a private local queue, which no other call joins.
func (l *localQueue) private() bool { return l.id != l.name }

// enlist puts w at the end of the local queue. Called with Manager.mu held.
func (l *localQueue) enlist(w *waiter) {
	if l.phase == idle {
		l.become(entering)
	}
	if ls := l.manager.lease.Load(); ls != nil && ls.Context().Err() == nil {
		w.under = ls
	}
	if w.Waiting != nil && l.taken() {
		w.Waiting.post(l.aheadHere())
	}
	w.place = l.waiters.PushBack(w)
}

// wake wakes the worker if the local queue is idle.
func (l *localQueue) wake() {
	select {
	case l.joined <- struct{}{}:
	default:
	}
}

// become changes the phase. It is the one place where the phase changes. The names of an idle queue
// are counted among those in use until that matters, see checkNesting. Called with Manager.mu held.
func (l *localQueue) become(to phase) {
	if to == l.phase {
		return
	}
	if err := phases.Check(l.phase, to); err != nil {
		l.manager.cfg.Fail(err)
		return
	}
	l.phase = to
	l.count(l.counted || to != idle)
}

// vacate notes that nothing of the local queue is left in etcd. Called with Manager.mu held.
func (l *localQueue) vacate() {
	if l.waiters.Len() > 0 {
		l.become(entering)
	} else {
		l.become(idle)
	}
}

// drive changes the driver. It is the one place where the driver changes, and it alone counts local
// queues as tasks of the manager, and those without a driver. Called with Manager.mu held.
func (l *localQueue) drive(by driver) {
	m := l.manager
	if err := drivers.Check(l.driver, by); err != nil {
		m.cfg.Fail(err)
		return
	}
	switch driverNone { //nolint:exhaustive // the cases are the two ends of the edge
	case l.driver:
		m.locals.rests(false)
		m.tasks.Add(1)
	case by:
		if m.locals.has(l) {
			m.locals.rests(true)
		}
		m.tasks.Done()
	}
	l.driver = by
}

// work makes the worker the driver. It begins with what is under way. Called with Manager.mu held.
func (l *localQueue) work(begun func(*localQueue) (drives bool)) {
	l.drive(driverWorker)
	go l.run(begun)
}

// own makes an ownership that of the local queue. Called with Manager.mu held.
func (l *localQueue) own(t *ownership) {
	l.owned = t
	l.become(owned)
}

// disown notes that an ownership is over, or has left the local queue. Called with Manager.mu held.
func (l *localQueue) disown(t *ownership) {
	if t == l.owned {
		l.owned = nil
	}
}

// changeSlots changes the slots of a private local queue to those of an entry that it has taken over.
func (l *localQueue) changeSlots(to []wire.Slot) {
	for i, slot := range l.slots {
		if slot != to[i] {
			l.manager.dropSlot(l.names[i], slot)
		}
	}
	l.slots = to
	if set, ok := l.queue.(*queue.Set); ok {
		set.Use(to)
	}
}

// leaveSlots leaves the slots of a private local queue to its ownership. Called with Manager.mu held.
func (l *localQueue) leaveSlots() {
	if l.private() {
		l.slots = nil
	}
}

// taken tells whether a goroutine of this session holds or waits. It is false while the worker only
// deletes what an earlier caller left. Called with Manager.mu held.
func (l *localQueue) taken() bool {
	return l.waiters.Len() > 0 || l.held()
}

// held tells whether a goroutine of this session holds alone. Called with Manager.mu held.
func (l *localQueue) held() bool {
	return l.owned != nil && l.owned.holders > 0 && l.owned.life.Cause() == nil
}

// refuses tells whether a call of this session is ahead of w, which is a try. Requests that can be
// held beside each other are ahead of each other only once they have to wait. Called with Manager.mu
// held.
func (l *localQueue) refuses(w *waiter) bool {
	if w.Rule == nil || l.held() {
		return l.taken()
	}
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		if e.Value.(*waiter).Rule == nil {
			return true
		}
	}
	return l.waiting != nil && l.waiters.Len() > 0
}

// refusesHere is the error of a waiter that is refused for another call of its session. Called with
// Manager.mu held.
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

// block notes that the present entry has to wait, and refuses the tries behind it.
func (l *localQueue) block(e *queue.Entry) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.waiting = e
	l.become(waiting)
	if first := l.front(); first != nil {
		first.Waiting.post(e.Ahead())
	}
	var next *list.Element
	for e := l.waiters.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); w.Try {
			l.tell(w, outcome{err: lockedHere(nil)})
		}
	}
}

// giveUp takes w out of the local queue, and returns the entry that was ahead of it, nil if none is
// known. It returns false if w has an outcome already.
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
	case next == nil || l.served != nil && !next.inherits(&l.served.Request):
		l.unwanted() // the entry is of no use any more, and in the way of others
	case first && (w.Carried != nil || next.Carried != nil):
		l.info.outdated()
	}
	return true, locked
}

// tell gives w its outcome, if it has not given up. Called with Manager.mu held.
func (l *localQueue) tell(w *waiter, o outcome) {
	if w.place != nil {
		l.waiters.Remove(w.place)
		w.place = nil
		w.given = o
		w.told.Set()
	}
}

// front is the first waiter; nil if there is none. Called with Manager.mu held.
func (l *localQueue) front() *waiter {
	if e := l.waiters.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
}

// failAll gives one outcome to all waiters that came under a lease, or to all waiters for nil. A
// waiter that came after a loss had no place that could be lost.
func (l *localQueue) failAll(under *lease.Lease, err error) {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.failWaiters(under, err)
}

// failWaiters is failAll with Manager.mu held.
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
