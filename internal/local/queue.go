package local

import (
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Queue is the local queue of a name: the goroutines of one session, in front of the one key that the
// session has in etcd's queue (trap A1). It lives while a caller is in it, or a key of it may stand,
// and for a moment longer, see rest.
//
// Exactly one of a caller, a holder, the keeper and a worker drives it at any time, see driver. A
// worker does everything that concerns the key and has to be waited for, one step after the other.
// Callers only join, and give up or get a grant. A caller that gives up therefore never costs the next
// one its place (trap A3), and an answer or a deletion that a caller does not wait for is still waited
// for. While there is nothing to wait for, there is no worker.
//
// A request that can be held beside others (a reader, permits) has a key of its own, in another
// slot. The local queue waits for one of them after the other. A granted one leaves the local queue
// (keeping.go).
//
// A call that needs a place of its own in etcd, such as one for several names at once, has a private
// local queue, which no other call joins.
type Queue struct {
	Line
	table  *Table
	member int // in locals.all; -1 once it was removed; guarded by Table.mu

	// Guarded by Table.mu.
	waiters waiters       // in the order of their calls
	pending *pending      // nil while nothing is under way in etcd for the waiters
	worker  *worker       // nil without one
	owned   *Ownership    // nil while the session does not own the lock
	since   time.Duration // when it became idle
	ticks   bool          // true: rested is called
	counted bool          // true: it is among the names in use; an idle queue is until that matters
	phase   phase         // changed by become
	driver  driver        // changed by drive
}

// pending is what is under way in etcd for the waiters of a local queue. Table.mu guards it, but for Wanted.
type pending struct {
	Wanted  lazyctx.Context // ends when no waiter is left for the wait in etcd
	served  *Waiter         // the waiter that the present entry was written for; nil while there is none
	waiting *queue.Entry    // the present entry, once it has to wait
}

// worker is what a local queue has beside that while a worker drives it.
type worker struct {
	info   holdInfo      // of the entry that waits
	joined chan struct{} // holds one; sent when a waiter joins an idle queue; nil before the worker listens
}

// waits is the entry by which the local queue waits in etcd; nil if there is none. Called with Table.mu
// held.
func (l *Queue) waits() *queue.Entry {
	if l.pending == nil {
		return nil
	}
	return l.pending.waiting
}

// info is that of the entry that waits; nil without a worker. Called with Table.mu held, or by the worker.
func (l *Queue) info() *holdInfo {
	if l.worker == nil {
		return nil
	}
	return &l.worker.info
}

// Attempt is the entry that is made for a waiter, under one lease. It belongs to one goroutine at a
// time.
type Attempt struct {
	Lease   *lease.Lease
	Slot    wire.Slot
	Of      *Waiter
	Entry   *queue.Entry // nil: none is known to stand
	Unsure  bool         // true: an entry may stand, or may come later
	Waited  int64        // the proof by which a wait of the caller has ended; 0 for none
	Over    bool         // true: the entry of an Unsure one does not come later
	pending              // of a caller that enters by itself
}

// Private tells whether this is a private local queue, which no other call joins.
func (l *Queue) Private() bool { return l.private != nil }

// enlist puts w at the end of the local queue. Called with Table.mu held.
func (l *Queue) enlist(w *Waiter) {
	if l.phase == idle {
		l.become(entering)
	}
	w.under = l.table.leases.valid()
	if w.Waiting != nil && l.taken() {
		w.Waiting.post(l.aheadHere())
	}
	l.waiters.add(w)
}

// wake wakes the worker if the local queue is idle.
func (l *Queue) wake() {
	if l.worker == nil {
		return
	}
	select {
	case l.worker.joined <- struct{}{}:
	default:
	}
}

// become changes the phase. It is the one place where the phase changes. The names of an idle queue
// are counted among those in use until that matters, see checkNesting. Called with Table.mu held.
func (l *Queue) become(to phase) {
	if to == l.phase {
		return
	}
	if err := Phases.Check(l.phase, to); err != nil {
		l.table.cfg.Fail(err)
		return
	}
	l.phase = to
	l.count(l.counted || to != idle)
}

// vacate notes that nothing of the local queue is left in etcd. Called with Table.mu held.
func (l *Queue) vacate() {
	if l.waiters.count > 0 {
		l.become(entering)
	} else {
		l.become(idle)
	}
}

// drive changes the driver. It is the one place where the driver changes, and it alone counts local
// queues as tasks of the manager, and those without a driver. Called with Table.mu held.
func (l *Queue) drive(by driver) {
	m := l.table
	if err := Drivers.Check(l.driver, by); err != nil {
		m.cfg.Fail(err)
		return
	}
	switch driverNone { //nolint:exhaustive // the cases are the two ends of the edge
	case l.driver:
		m.locals.rests(false)
		m.gate.tasks.Add(1)
	case by:
		if m.locals.has(l) {
			m.locals.rests(true)
		}
		m.gate.tasks.Done()
	}
	if l.driver, l.worker = by, nil; by == driverWorker {
		l.worker = &worker{}
	}
}

// prepare makes what sends the requests of a waiter. Called with Table.mu held.
func (l *Queue) prepare() {
	if l.Single == nil && !l.Several() {
		l.Single = l.table.cfg.Queues.Queue(l.Name())
	}
}

// work makes the worker the driver. It begins with what is under way. Called with Table.mu held.
func (l *Queue) work(begun Begun) {
	l.prepare()
	l.drive(driverWorker)
	go l.table.cfg.Work(l, begun)
}

// own makes an ownership that of the local queue. Called with Table.mu held.
func (l *Queue) own(t *Ownership) {
	l.owned = t
	l.become(owned)
}

// disown notes that an ownership is over, or has left the local queue. Called with Table.mu held.
func (l *Queue) disown(t *Ownership) {
	if t == l.owned {
		l.owned = nil
	}
}

// leaveSlots leaves the slots of a private local queue to its ownership. Called with Table.mu held.
func (l *Queue) leaveSlots() {
	if l.Private() {
		l.slots = nil
	}
}

// taken tells whether a goroutine of this session holds or waits. It is false while the worker only
// deletes what an earlier caller left. Called with Table.mu held.
func (l *Queue) taken() bool {
	return l.waiters.count > 0 || l.held()
}

// held tells whether a goroutine of this session holds alone. Called with Table.mu held.
func (l *Queue) held() bool {
	return l.owned != nil && l.owned.holders > 0 && l.owned.life.Cause() == nil
}

// refuses tells whether a call of this session is ahead of w, which is a try. Requests that can be
// held beside each other are ahead of each other only once they have to wait. Called with Table.mu
// held.
func (l *Queue) refuses(w *Waiter) bool {
	if w.Rule == nil || l.held() {
		return l.taken()
	}
	for w := l.waiters.first; w != nil; w = w.next {
		if w.Rule == nil {
			return true
		}
	}
	return l.waits() != nil && l.waiters.count > 0
}

// refusesHere is the error of a waiter that is refused for another call of its session. Called with
// Table.mu held.
func (l *Queue) refusesHere() *LockedError {
	if l.held() {
		return l.inTheWay()
	}
	return lockedHere(nil)
}

// WaitsWith notes by which entry the local queue waits in etcd.
func (l *Queue) WaitsWith(e *queue.Entry) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.pending.waiting = e
}

// Waits returns the entry by which the local queue waits in etcd; nil if there is none.
func (l *Queue) Waits() *queue.Entry {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return l.waits()
}

// Block notes that the present entry has to wait, and refuses the tries behind it.
func (l *Queue) Block(e *queue.Entry) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.pending.waiting = e
	l.become(waiting)
	if first := l.front(); first != nil {
		first.Waiting.post(e.Ahead())
	}
	for w := l.waiters.first; w != nil; w = w.next {
		if w.Try {
			l.fail(w, lockedHere(nil))
		}
	}
}

// GiveUp takes w out of the local queue, and returns the entry that was ahead of it, nil if none is
// known. It returns false if w has an outcome already.
func (l *Queue) GiveUp(w *Waiter) (bool, *LockedError) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if !w.waits {
		return false, nil
	}
	locked := l.inTheWay()
	first := l.front() == w
	l.waiters.remove(w)
	switch next := l.front(); {
	case next == nil || l.pending != nil && l.pending.served != nil && !next.inherits(l.pending.served.Request):
		l.unwanted() // the entry is of no use any more, and in the way of others
	case first && (w.Carried != nil || next.Carried != nil):
		l.info().outdated()
	}
	return true, locked
}

// fail gives w an error, if it has not given up. Called with Table.mu held.
func (l *Queue) fail(w *Waiter, err error) {
	if w.waits {
		w.err = err
		l.tell(w)
	}
}

// tell wakes w, which has its outcome. Called with Table.mu held.
func (l *Queue) tell(w *Waiter) {
	l.waiters.remove(w)
	w.told.Set()
}

// Fail gives w an error, if it has not given up.
func (l *Queue) Fail(w *Waiter, err error) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.fail(w, err)
}

// front is the first waiter; nil if there is none. Called with Table.mu held.
func (l *Queue) front() *Waiter { return l.waiters.first }

// FailAll gives one outcome to all waiters that came under a lease, or to all waiters for nil. A
// waiter that came after a loss had no place that could be lost.
func (l *Queue) FailAll(under *lease.Lease, err error) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.failWaiters(under, err)
}

// failWaiters is FailAll with Table.mu held.
func (l *Queue) failWaiters(under *lease.Lease, err error) {
	for w := l.waiters.first; w != nil; w = w.next {
		if under == nil || w.under == under {
			l.fail(w, err)
		}
	}
	if l.waiters.count == 0 {
		l.unwanted() // the wait in etcd has no purpose any more
	}
}

// aheadHere is how many callers of the session are ahead of one that joins the local queue now, and
// how many entries are ahead of theirs. Called with Table.mu held.
func (l *Queue) aheadHere() (n int) {
	if l.held() {
		n = int(l.owned.holders)
	}
	if e := l.waits(); e != nil {
		n += e.Ahead()
	}
	return n + l.waiters.count
}

// inTheWay is the error that names the entry ahead of a waiter of the local queue; nil if none is
// known. Called with Table.mu held.
func (l *Queue) inTheWay() *LockedError {
	switch {
	case l.held():
		return lockedHere(l.owned.entry.Parts()[0].KV())
	case l.waits() != nil:
		return &LockedError{By: l.waits().Obstacle()}
	default:
		return nil
	}
}

// unwanted ends the wait in etcd, as no waiter is left for it. Called with Table.mu held.
func (l *Queue) unwanted() {
	if l.pending != nil {
		l.pending.Wanted.Cancel(ErrUnwanted)
	}
}

// endWait ends what Want or attempt began. Called with Table.mu held.
func (l *Queue) endWait() {
	if l.pending != nil {
		l.pending.Wanted.Release()
	}
	l.pending = nil
}

// successor is Successor with Table.mu held.
func (l *Queue) successor(of *Waiter) *Waiter {
	if w := l.front(); w != nil && w.inherits(of.Request) {
		return w
	}
	return nil
}

// grantTo makes a waiter of the local queue a holder. Called with Table.mu held.
func (l *Queue) grantTo(t *Ownership, w *Waiter, by Path) {
	t.newHolder(w, by)
	l.tell(w)
}

// attend has the worker finish an ownership that the worker does not drive so far, or continue for a
// waiter. Called with Table.mu held.
func (l *Queue) attend() {
	if l.driver.holds() {
		l.work(Begun{Finish: l.owned})
	}
}

// mayRest tells whether the local queue is idle once an ownership that the worker does not drive is
// over. Called with Table.mu held.
func (l *Queue) mayRest(t *Ownership) bool {
	return t == l.owned && l.driver.holds() && l.waiters.count == 0 && !l.Private() && !l.listens()
}
