package local

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/roster"
	"github.com/etcdlock/etcdlock/internal/wire"
	"go.uber.org/zap"
)

// How an ownership goes on: its key is watched, kept without a holder, or shared.

// unattended leaves an ownership to its holder. Called with Table.mu held, by the driver.
func (t *Ownership) unattended() {
	t.local.drive(driverHolder)
	t.young = t.local.table.young.Add(t)
}

// grown has the key watched of an ownership that has lasted for a while.
func (t *Ownership) grown() {
	m := t.local.table
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.left.IsSet() && (t.beside || t == t.local.owned && t.local.driver == driverHolder) {
		t.lasts()
	}
}

// lasts has the keeper watch the key. Called with Table.mu held, by the driver.
func (t *Ownership) lasts() {
	l := t.local
	if t == l.owned {
		l.drive(driverKeeper)
	}
	if t.ended() || t.guard != nil || l.table.gate.state == closed {
		return
	}
	byCache := false
	if t == l.owned {
		byCache = l.Single != nil && l.Single.Viewed()
		l.close()
	}
	t.guard = l.table.guards.Guard(t.entry, byCache, t)
	if t.retention.begun() {
		t.guard.Keep()
	}
}

// listen has other sessions heard of that line up. Called with Table.mu held.
func (t *Ownership) listen() {
	switch t.local.driver { //nolint:exhaustive // the worker is told by retained
	case driverHolder:
		t.local.table.young.Drop(t.young)
		t.lasts()
	case driverKeeper:
		t.guard.Keep()
	}
}

var _ queue.Owner = (*Ownership)(nil)

// Evicted is called when the key is gone. Another session may have the lock already. The present holder
// goes on while the cause is found out, but no other caller gets the ownership any more.
func (t *Ownership) Evicted() {
	m := t.local.table
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gate.state == closed || !t.found() { // the last holder has deleted it, most likely
		return
	}
	if m.evicted.add(t.deletion()) {
		m.gate.tasks.Go(m.cfg.Explain)
	}
}

// Unguarded is called when the session may not read its own key any more, so that the lease alone has
// to do. Another session that enters the queue is not noticed either.
func (t *Ownership) Unguarded(err error) {
	t.local.table.cfg.Log.Error("cannot watch the key of a hold; a deletion of the key will not be noticed", zap.String("name", t.local.Name()), zap.Error(err))
	t.Contended()
}

// retention keeps the key of an ownership without a holder, for the next caller of the session. It is nil
// until that is first needed.
type retention struct {
	retained lazyctx.Latch // set when the key is kept for the first time
	idle     time.Duration // since when it is kept
	period   time.Duration // how long it is kept
	taken    time.Duration // when it was last taken by a caller, by the session's clock
	running  bool          // true: timer runs
	timer    *time.Timer   // ends the retention; nil until it is first needed
}

// stop ends the retention.
func (k *retention) stop() {
	if k.begun() {
		k.timer.Stop()
	}
}

// begun tells whether the key was kept before.
func (k *retention) begun() bool { return k != nil && k.timer != nil }

// began is since when a time slice counts, by the session's clock.
func (t *Ownership) began() time.Duration {
	if t.retention == nil {
		return t.since
	}
	return max(t.since, t.retention.taken)
}

// mayKeep tells whether the key may be kept once h, the last hold, has ended. Called with Table.mu
// held.
func (t *Ownership) mayKeep(h *Hold) bool {
	m := t.local.table
	return h.terms.Retention > 0 && !t.local.Private() && !t.contended && !m.leases.suspended && m.gate.state == open
}

// keep leaves the key where it is for the next caller of the session, for as long as retention,
// unless another session wants it. Called with Table.mu held.
func (t *Ownership) keep(period time.Duration) {
	if t.retention == nil {
		t.retention = &retention{}
	}
	k := t.retention
	running := k.running && period >= k.period // it looks at idle when it fires
	t.become(kept)
	k.idle, k.period, k.running = t.local.table.now(), period, true
	switch {
	case k.timer == nil:
		k.timer = time.AfterFunc(period, t.expire)
		k.retained.Set()
		t.listen() // for other sessions, from now on
	case !running:
		k.timer.Reset(period)
	}
}

// expire gives up a key that was kept for long enough.
func (t *Ownership) expire() {
	m, k := t.local.table, t.retention
	m.mu.Lock()
	defer m.mu.Unlock()
	switch left := k.period - (m.now() - k.idle); {
	case t.state != kept:
		k.running = false
	case left > 0:
		k.timer.Reset(left)
	default:
		t.end()
	}
}

// take grants w the kept key, without a request. It returns false if no key is kept, or if its value
// does not fit. Such a key is given up. Called with Table.mu held.
func (t *Ownership) take(w *Waiter) bool {
	if !t.open() || t.state != kept {
		return false
	}
	if t.identity != w.Identity {
		t.end()
		return false
	}
	t.become(held)
	t.retention.taken = t.clock() // no other session wanted it so far
	t.newHolder(w, PathRetained)
	return true
}

// Contended is called when another session has entered the queue, or asks for the lock. A kept key is
// given up at once, and a held one is not kept afterwards.
func (t *Ownership) Contended() {
	m := t.local.table
	m.mu.Lock()
	defer m.mu.Unlock()
	t.contended = true
	t.giveUpKept()
}

// giveUpKept gives up a kept key. Called with Table.mu held.
func (t *Ownership) giveUpKept() {
	if t != nil && t.state == kept {
		t.end()
	}
}

// An ownership that does not exclude all others, as that of readers or of permits, leaves its local
// queue as soon as it is granted. The local queue goes on with the next waiter.

// beside are the ownerships of a table that have left their local queues. Table.mu guards them.
type beside struct {
	all     roster.List[*Ownership]
	readers map[string]*Ownership // by name: the one that further readers may share
}

// read lets further readers share an ownership.
func (s *beside) read(t *Ownership) { s.readers[t.local.Name()] = t }

// readNoMore lets no further readers share an ownership.
func (s *beside) readNoMore(t *Ownership) {
	if s.readers[t.local.Name()] == t {
		delete(s.readers, t.local.Name())
	}
}

// goBeside takes an ownership out of its local queue. Called with Table.mu held.
func (t *Ownership) goBeside() {
	l := t.local
	m := l.table
	t.beside = true
	m.beside.all.Add(t)
	m.cfg.Names.Use(l.Names(), 1)
	if t.mode() == wire.Shared {
		t.asked = t.clock()
		m.beside.read(t)
	}
	t.young = m.young.Add(t)
}

// Index is that in beside.all.
func (t *Ownership) Index() *int { return &t.apart().member }

// forgetBeside forgets an ownership beside its local queue. Called with Table.mu held.
func (t *Ownership) forgetBeside() {
	l := t.local
	m := l.table
	m.noteLoss(t)
	t.beside = false
	m.beside.all.Remove(t.member)
	m.beside.readNoMore(t)
	m.cfg.Names.Use(l.Names(), -1)
	m.DropSlot(l.Name(), t.slot)
	m.gate.wake()
}

// sharing is what an ownership has that does not exclude all others, or is beside its local queue, or is
// to be. It is nil for others.
type sharing struct {
	mode      wire.Mode
	permits   int32         // of wire.Counted
	member    int           // in beside.all
	asked     time.Duration // of readers: when no other session was known to wait, by the session's clock
	upgrading *Upgrade      // of readers: that of the one that is becoming a writer
	shared    chan struct{} // of a writer that has become a reader: closed when that is written, or pointless
	detach    chan struct{} // not nil: it is to leave its local queue; closed when it has
}

// apart returns what the ownership has for others beside it.
func (t *Ownership) apart() *sharing {
	if t.sharing == nil {
		t.sharing = &sharing{}
	}
	return t.sharing
}

// mode is how the ownership excludes others. Called with Table.mu held.
func (t *Ownership) mode() wire.Mode {
	if t.sharing == nil {
		return wire.Exclusive
	}
	return t.sharing.mode
}

// share grants w a hold beside the other readers, without a request. It does so for a time slice
// from when no writer was known to wait. Called with Table.mu held.
func (t *Ownership) share(w *Waiter) bool {
	if !t.shareable() || t.clock()-t.asked >= w.Terms.Slice {
		return false
	}
	t.newHolder(w, PathLocal)
	return true
}

// shareable tells whether further readers can be admitted, as far as the session knows. Called with
// Table.mu held.
func (t *Ownership) shareable() bool {
	return t.open() && t.mode() == wire.Shared && t.state == held
}

// grantReaders admits all readers at the front of a local queue. Called with Table.mu held.
func (t *Ownership) grantReaders(l *Queue) {
	for w := l.front(); w != nil && w.Mode == wire.Shared; w = l.front() {
		l.grantTo(t, w, PathLocal)
	}
}

// detached takes an ownership out of its local queue if it is that of a writer that has become a
// reader. Called by the worker, with Table.mu held.
func (t *Ownership) detached() bool {
	l := t.local
	if !t.detachNow() || !t.open() {
		return false
	}
	t.become(held)
	t.local.table.young.Drop(t.young)
	t.guard.Stop()
	t.guard, t.left = nil, lazyctx.Latch{}
	l.disown(t)
	l.leaveSlots()
	t.goBeside()
	return true
}

// detachNow wakes the writer that waits until its ownership has left its local queue, or is lost. It
// returns false if there is none. Called with Table.mu held.
func (t *Ownership) detachNow() bool {
	if t.sharing == nil || t.detach == nil {
		return false
	}
	close(t.detach)
	t.detach = nil
	return true
}

// Upgrade is a reader that is becoming a writer. Its goroutine makes the requests, under the lease,
// so that a mark which the caller does not wait for is still taken back.
type Upgrade struct {
	Of      *Hold
	Alone   chan struct{}           // closed when no other reader of the session is left
	Written <-chan struct{}         // closed when a downgrade before it is written; nil if there was none
	Told    chan struct{}           // closed when it has an outcome
	Done    chan struct{}           // closed when the mark is taken back, or pointless
	Cancel  context.CancelCauseFunc // ends the wait

	// Guarded by Table.mu.
	given   Grant        // the outcome: a hold, or an error
	err     error        // set before Told
	waiting *queue.Entry // the marked entry; nil before
	over    bool         // true: it has its outcome, or no caller waits for it
}

// left notes how many readers of the session are left. Called with Table.mu held.
func (u *Upgrade) left(readers int) {
	if u != nil && readers == 1 {
		close(u.Alone) // once, because no reader is admitted meanwhile
	}
}

// tell gives the caller the outcome. Called with Table.mu held.
func (u *Upgrade) tell(g Grant, err error) {
	u.over, u.given, u.err = true, g, err
	close(u.Told)
}

// fail gives the caller the error, and ends the wait. Called with Table.mu held.
func (u *Upgrade) fail(err error) {
	if u != nil && !u.over {
		u.tell(Grant{}, err)
		u.Cancel(err)
	}
}

// unmark ends an upgrade that is under way, for a cause. It returns false if there is none
// with a mark to take back. Called with Table.mu held.
func (t *Ownership) unmark(cause error) bool {
	if t == nil || t.sharing == nil || t.upgrading == nil {
		return false
	}
	t.upgrading.fail(cause)
	return true
}
