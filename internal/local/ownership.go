package local

import (
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Ownership is a session's time with the lock in etcd: one entry, from its grant to the deletion of
// its key. In between, goroutines of the session hold one after the other, handed over in memory.
// With retention the key may be kept while there is no holder.
//
// Readers hold at the same time. Their ownership has left its local queue (keeping.go).
//
// An ownership needs no goroutine. It is not watched while it is young. Then the keeper of the session
// watches its key, with those of all others, and reports what concerns it.
type Ownership struct {
	title
	slot     wire.Slot // of the key
	identity string    // that of the request which the key's value was made for
	carried  *Carried  // that of the request which the key's value was made for

	// Guarded by Table.mu.
	token     int64
	since     time.Duration  // of the grant, by the session's clock
	holders   int32          // 0 while the key is kept
	state     ownershipState // changed by become
	candidate bool           // of an election; does not change
	contended bool           // true: another session waits
	noted     bool           // true: its loss is noted
	beside    bool           // true: it has left its local queue
	attended  bool           // true, beside the local queue: a goroutine finishes it
	tried     bool           // true: the last holder got no answer when it deleted the key

	young uint64        // its number in Table.young
	guard *queue.Guard  // watches the key; nil before
	left  lazyctx.Latch // set when a goroutine is to finish the ownership

	retention *retention
	*sharing
	outcome *outcome
}

// begin starts an ownership on the granted entry of an attempt. Called with Table.mu held.
func (l *Queue) begin(a *Attempt, rev int64, w *Waiter) *Ownership {
	t := &Ownership{
		title:   title{lease: a.Lease, entry: a.Entry, local: l},
		carried: w.Carried, slot: a.Slot, identity: w.Identity, candidate: w.Candidate, token: rev, since: l.table.cfg.Clock(),
	}
	if w.Mode != wire.Exclusive {
		s := t.apart()
		s.mode, s.permits = w.Mode, int32(w.Permits)
	}
	t.life.Within(a.Lease.Context())
	if w.Rule != nil && !l.Private() {
		t.goBeside()
	} else {
		l.own(t)
	}
	return t
}

// become changes the state. It is the one place where the state changes. Called with Table.mu held.
func (t *Ownership) become(to ownershipState) {
	m := t.local.table
	if err := Ownerships.Check(t.state, to); err != nil {
		m.cfg.Fail(err)
		return
	}
	t.state = to
	if to == releasing || to == lost {
		m.gate.ending()
	}
}

// ended tells whether no caller gets the ownership any more. Called with Table.mu held.
func (t *Ownership) ended() bool { return t.state >= releasing }

// open tells whether the ownership can have another holder: it goes on, and the lease has not been
// ended. The lease was looked at before, without the mutex. Called with Table.mu held.
func (t *Ownership) open() bool {
	return t != nil && !t.ended() && t.life.Cause() == nil
}

// close ends the ownership for callers. Called with Table.mu held.
func (t *Ownership) close() {
	switch {
	case t.ended():
	case t.life.Cause() != nil:
		t.become(lost)
	default:
		t.become(releasing)
	}
	t.retention.stop()
	t.local.table.young.Drop(t.young)
	t.guard.Stop()
}

// end is close, and has the key deleted. Called with Table.mu held.
func (t *Ownership) end() {
	t.close()
	t.leave()
}

// leave has the worker, or a goroutine of an ownership beside its local queue, finish the ownership.
// Called with Table.mu held.
func (t *Ownership) leave() {
	m := t.local.table
	if t.state >= gone || t.state == lost && t.life.Cause() == nil {
		return // in the latter case Lose or ForgetLease follows, with the cause
	}
	t.left.Set()
	switch {
	case t == t.local.owned:
		t.local.attend()
	case t.beside && !t.attended:
		t.attended = true
		m.gate.tasks.Go(func() { m.cfg.Finish(t) })
	}
}

// found ends the ownership for callers, because its key was found deleted. It returns false if the
// ownership had ended before. Called with Table.mu held.
func (t *Ownership) found() bool {
	if t.ended() {
		return false
	}
	t.become(lost)
	t.close()
	return true
}

// newHolder makes w a holder. Called with Table.mu held.
func (t *Ownership) newHolder(w *Waiter, by Path) {
	t.holders++
	w.get((&holder{mu: &t.local.table.mu}).grant(t, whole, by))
}

// release decides what follows after h was given back. It returns false if another caller of this
// session has the ownership, or the key is kept. Otherwise the ownership has ended, and the key is to
// be deleted. Called with Table.mu held.
func (t *Ownership) release(h *Hold) (ended bool) {
	m := t.local.table
	m.counts.release()
	for r := range h.holder.infos {
		r.outdated()
	}
	if h.holder.holds--; h.holder.holds > 0 {
		return false
	}
	t.holders--
	switch {
	case t.ended():
		return true // it was lost in this instant
	case t.holders > 0:
		t.upgrading.left(int(t.holders)) // others hold only beside the local queue
		return false
	case t.open() && t == t.local.owned && len(h.holder.infos) == 0 && !h.Overdue():
		front := t.local.front()
		switch {
		case front != nil && front.Identity == t.identity && m.cfg.Clock()-t.began() < h.terms.Slice:
			t.local.grantTo(t, front, PathLocal)
			return false
		case front == nil && t.mayKeep(h):
			t.keep(h.terms.Retention)
			return false
		}
	}
	t.close()
	return true
}

// outcome is what became of the key of an ownership. It is nil until a caller waits for it, or the
// deletion is not confirmed.
type outcome struct {
	settled lazyctx.Latch // set when it is known
	err     error         // why the deletion is not confirmed; set before settled
}

// awaited returns the outcome for a caller that waits. Called with Table.mu held.
func (t *Ownership) awaited() *outcome {
	if t.outcome == nil {
		t.outcome = &outcome{}
		if t.state >= gone {
			t.outcome.settled.Set()
		}
	}
	return t.outcome
}

// settleAs notes what has become of the key, once. Called with Table.mu held.
func (t *Ownership) settleAs(to ownershipState, err error) {
	l := t.local
	if t.state >= gone {
		return // the last holder's deletion was answered while the worker finished the ownership
	}
	t.become(to)
	if err != nil || t.outcome != nil {
		o := t.awaited()
		o.err = err
		o.settled.Set()
	}
	t.life.Cancel(lockerr.ErrReleased)
	t.detachNow() // it was lost before the worker could take it out of its local queue
	switch {
	case t.beside:
		t.forgetBeside()
	case !l.Private():
		l.table.DropSlot(l.Name(), t.slot)
	}
	l.disown(t)
}

// loss is the ownership as it is described. Called with Table.mu held.
func (t *Ownership) loss() loss { return loss{&t.title, t.kind(), t.token, t.since} }

// noteLoss notes an ownership that was held when the present lease ended, once. FinishLost calls it for
// each ownership that is left then, and whatever forgets an ownership before that. Called with m.mu held.
func (m *Table) noteLoss(t *Ownership) {
	if t != nil && !t.noted && t.holders > 0 && m.leases.ended(t.lease) && m.cfg.Life.Err() == nil {
		t.noted = true
		m.losses.add(t.loss())
		m.counts.losing(int(t.holders))
	}
}

// Deletion is the key of an ownership that has ended, and what is to be done with it.
type Deletion struct {
	Of    *Ownership
	Queue *Queue
	Lease *lease.Lease
	Entry *queue.Entry
	Slot  wire.Slot
	Tried bool  // true: a request to delete the key had no answer
	Lost  error // why the ownership was lost, so that nothing is to be deleted; nil if it was not
}

func (t *Ownership) deletion() Deletion {
	return Deletion{Of: t, Queue: t.local, Lease: t.lease, Entry: t.entry, Slot: t.slot, Tried: t.tried}
}

// Released is what comes of a release.
type Released uint8

// The outcomes of a release.
const (
	NotHeld Released = iota // the hold had ended before
	Passed                  // another caller of the session has the ownership, or the key is kept
	Last                    // the ownership has ended, and the key is to be deleted
)

// Release gives a hold back. The deletion is that of the last hold.
func (m *Table) Release(h *Hold) (Released, Deletion) {
	_ = h.owned.lease.Err() // see Hold.Err
	if !h.end() && !h.givenBack() {
		return NotHeld, Deletion{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !h.owned.release(h) {
		return Passed, Deletion{}
	}
	return Last, h.owned.deletion()
}

// CloseFor ends the ownership for other callers of the session, before h is handed over to a
// successor. It returns false, and changes nothing, while the holder has another hold.
func (m *Table) CloseFor(h *Hold) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch h.holder.holds {
	case 0: // it was given back before, and another holder may have the ownership by now
	case 1:
		h.owned.close()
	default:
		return false
	}
	return true
}

// Deletion is the key of the hold, and by what it is owned.
func (h *Hold) Deletion() Deletion {
	h.owned.local.table.mu.Lock()
	defer h.owned.local.table.mu.Unlock()
	return h.owned.deletion()
}

// Contended notes that another session has asked for the lock.
func (h *Hold) Contended() { h.owned.Contended() }

// Left notes what came of the last holder's request to delete the key: that the key is deleted, or an
// error if the request had no answer. Unless the key is deleted, the worker does the rest, and the
// channel is closed when it is through.
func (d *Deletion) Left(deleted bool, err error) (settled <-chan struct{}) {
	t, l := d.Of, d.Queue
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	switch {
	case !deleted:
		t.tried = err != nil
		t.leave()
		return t.awaited().settled.Done()
	case l.mayRest(t):
		t.settleAs(gone, nil)
		l.rest()
	case t.state < gone:
		alone := t == l.owned
		t.left.Set()
		t.settleAs(gone, nil)
		if alone {
			l.vacate()
			l.attend()
		}
	}
	return nil
}

// Again makes the last holder the driver of the local queue, which deletes the key and enters for the first
// waiter by one request. It returns nil if that is not possible, or if a worker acts already. The holder calls
// LeftAgain, or Left after a nil.
func (d *Deletion) Again() *Attempt {
	l := d.Queue
	if !d.Entry.Marked() {
		return nil
	}
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	w := l.front()
	if w == nil || d.Of != l.owned || l.driver != driverHolder || l.Private() || w.Carried != nil || l.table.leases.valid() != d.Lease {
		return nil
	}
	if l.prepare(); !l.Marks(&w.Call) {
		return nil
	}
	slot, free := l.otherMarked(d.Slot)
	if !free {
		return nil
	}
	l.drive(driverCaller)
	l.waitUnder(d.Lease)
	return l.attempts(w, d.Lease, slot)
}

// otherMarked takes the other one of the two marked slots, if no key of it may stand.
func (l *Queue) otherMarked(than wire.Slot) (slot wire.Slot, free bool) {
	if slot = wire.MarkedSlot(0); slot == than {
		slot = wire.MarkedSlot(1)
	}
	free, _ = l.table.cfg.Names.Hold(l.Name(), slot)
	return slot, free
}

// LeftAgain notes what came of the request that deletes the key and makes the attempt: that the key is
// deleted, with or without an entry, or an error if the request had no answer. The worker does the rest.
// The channel is closed when the key is deleted; nil if it is.
func (d *Deletion) LeftAgain(a *Attempt, deleted bool, err error) (settled <-chan struct{}) {
	t, l := d.Of, d.Queue
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	next := Begun{Attempt: a}
	if deleted {
		t.left.Set()
		t.settleAs(gone, nil)
		l.become(entering)
	} else {
		t.tried, next.Finish = err != nil, t
		settled = t.awaited().settled.Done()
	}
	if a.Unsure = err != nil; a.Entry == nil && err == nil {
		l.table.DropSlot(l.Name(), a.Slot)
		l.endWait()
		next.Attempt = nil
	}
	l.work(next)
	return settled
}

// Unconfirmed is why the deletion of a key is not confirmed, once the channel of Left is closed.
func (d *Deletion) Unconfirmed() error { return d.Of.outcome.err }

// Finish ends an ownership that is to end, or that was lost. It returns false if there is nothing to
// delete: the last holder has deleted the key, or the ownership has left its local queue.
func (m *Table) Finish(t *Ownership) (d Deletion, ok bool) {
	l := t.local
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.detached() || t.state >= gone {
		return Deletion{}, false
	}
	t.close() // before all else, or a loss would meet a new holder
	d = t.deletion()
	d.Lost = t.life.Cause()
	if t == l.owned {
		m.noteLoss(t)
		l.disown(t)
		if d.Lost == nil || t.lease.Context().Err() == nil && len(t.entry.Parts()) > 1 {
			l.become(leaving)
		}
	}
	return d, true
}

// Settle notes what has become of the key. refused says that etcd refuses to delete it, and err is why
// the deletion is not confirmed.
func (d *Deletion) Settle(refused bool, err error) {
	d.Queue.table.mu.Lock()
	defer d.Queue.table.mu.Unlock()
	if refused {
		d.Of.settleAs(uncertain, err)
	} else {
		d.Of.settleAs(gone, err)
	}
}

// Lose ends the ownership, and whatever is held under it, for a cause.
func (t *Ownership) Lose(cause error) {
	m := t.local.table
	first := t.loseAlone(cause)
	m.mu.Lock()
	held := t.holders > 0
	if first && t.lease.Context().Err() == nil {
		t.noted = true // the end of the lease does not count it again
		m.counts.losing(int(t.holders))
	}
	t.leave()
	lost := t.loss()
	m.mu.Unlock()
	if first && held && t.lease.Err() == nil {
		m.willLog(lost, cause)
	}
}

// TakeEvicted returns the keys that were found deleted, and when the first of them was. If there are
// none, Config.Explain is to end.
func (m *Table) TakeEvicted() (all []Deletion, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.evicted.take()
}

// goWithLease settles an ownership whose lease has ended. Called with Table.mu held.
func (t *Ownership) goWithLease() {
	t.close()
	t.settleAs(gone, lockerr.NotConfirmed(t.life.Cause()))
}
