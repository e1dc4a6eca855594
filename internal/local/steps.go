package local

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// The steps of a caller, and of what drives a local queue.
//
//	idle ──▶ a caller enters ──▶ held, unwatched ──▶ held, guarded ──▶ the last holder leaves ──▶ idle
//	               │                   │                   │                    │
//	               ▼                   ▼                   ▼                    ▼
//	                          the worker goes on from any of these steps

// Join puts w at the end of the local queue of a name, and makes the local queue if there is none.
// It returns true instead if the session has the key and the local queue is empty, so that w has a
// hold at once. It returns an attempt too if w is to enter by itself.
func (m *Table) Join(name string, w *Waiter) (l *Queue, first *Attempt, granted bool, err error) {
	m.leases.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.gate.admits(); err != nil {
		return nil, nil, false, err
	}
	l = m.locals.byName[name]
	if l == nil || l.waiters.count == 0 {
		if m.atOnce(l, name, w) {
			return nil, nil, true, nil
		}
	}
	if l != nil && w.Try && l.refuses(w) {
		return nil, nil, false, l.refusesHere()
	}
	switch {
	case l == nil || l.phase == idle && !l.counted:
		if err := m.checkNesting(name); err != nil {
			return nil, nil, false, err
		}
		if l == nil {
			l = m.addLocal(name)
		}
	case w.Cycle != nil && w.Carried != nil && l.taken():
		l = m.addPrivate([]string{name}) // a wait in memory is not seen by other processes
	}
	l.enlist(w)
	if l.driver == driverNone {
		return l, l.attempt(w), false, nil
	}
	l.wake()
	return l, nil, false, nil
}

// JoinAll makes a local queue for w alone.
func (m *Table) JoinAll(names []string, w *Waiter) (*Queue, error) {
	m.leases.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.gate.admits(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := m.checkNesting(name); err != nil {
			return nil, err
		}
	}
	l := m.addPrivate(names)
	l.enlist(w)
	return l, nil
}

// atOnce grants w a hold under a key that the session has, if there is one for it. Called with m.mu
// held.
func (m *Table) atOnce(l *Queue, name string, w *Waiter) bool {
	if l != nil && w.Rule != nil {
		l.owned.giveUpKept() // a kept key is for an exclusive request
	}
	switch {
	case w.Mode == wire.Shared:
		return m.beside.readers[name].share(w)
	case l == nil || w.Rule != nil:
		return false
	default:
		return l.owned.take(w)
	}
}

// attempt makes a waiter that has just joined the driver of the local queue. It returns nil if the
// worker has to act, which it starts. Called with Table.mu held.
func (l *Queue) attempt(w *Waiter) *Attempt {
	cfg := &l.table.cfg
	l.prepare()
	if w.Rule != nil || w.Carried != nil || w.under == nil || cfg.MayStand(w.under.ID(), l.Names()) || // a key of it may stand already
		w.Hurries {
		l.work(Begun{})
		return nil
	}
	if held, _ := cfg.Names.Hold(l.Name(), w.Rank); !held {
		l.work(Begun{})
		return nil
	}
	l.drive(driverCaller)
	return l.attempts(w, w.under, w.Rank)
}

// attempts begins an attempt for the first waiter. Called with Table.mu held, by the driver.
func (l *Queue) attempts(w *Waiter, under *lease.Lease, slot wire.Slot) *Attempt {
	a := &Attempt{Lease: under, Slot: slot, Of: w}
	a.Wanted.Within(l.table.cfg.Life)
	a.served, l.pending = w, &a.pending
	return a
}

// Marks tells whether the entry of a call is to be marked, as in a long queue. A key that may be kept
// is not. Called by the driver.
func (l *Line) Marks(c *Call) bool {
	return c.Rule == nil && !c.Candidate && !c.Try && c.Terms.Retention == 0 && l.Single.Crowded()
}

// Told returns a channel that is closed when w has an outcome.
func (l *Queue) Told(w *Waiter) <-chan struct{} {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return w.told.Done()
}

// GrantAlone grants the entry of an attempt to the caller that has made it, and makes the holder the
// driver. rev is the proof. It returns false if the worker has to act.
func (l *Queue) GrantAlone(a *Attempt, rev int64) bool {
	_ = a.Lease.Err() // ends it if its time is over
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if l.front() != a.Of || a.Lease.Context().Err() != nil {
		return false // the session is about to end
	}
	by := l.path()
	t := l.begin(a, rev, a.Of)
	l.grantTo(t, a.Of, by)
	l.endWait()
	t.unattended()
	return true
}

// path is that of a grant by etcd, before the phase changes. Called with Table.mu held.
func (l *Queue) path() Path {
	if l.phase == waiting {
		return PathQueued
	}
	return PathFree
}

// Refused ends an attempt that etcd has refused. Nothing of it is left in etcd.
func (l *Queue) Refused(a *Attempt) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.table.DropSlot(l.Name(), a.Slot)
	l.endWait()
	if l.waiters.count > 0 {
		l.work(Begun{})
		return
	}
	l.rest()
}

// Resume has the worker go on with an attempt.
func (l *Queue) Resume(a *Attempt) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.work(Begun{Attempt: a})
}

// GoesOn notes that the worker goes on with an attempt after it has finished an ownership.
func (l *Queue) GoesOn() {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.become(entering)
}

// Next is what a worker does next.
type Next uint8

// The next steps.
const (
	Serve    Next = iota // a waiter
	Listen               // to a watch that is kept, until a waiter joins
	Withdraw             // the inbox; the worker then asks again
	Close                // the local queue is closed: the worker calls Ended when its watches are
	Leave                // nothing: the local queue is idle
)

// Next decides what the worker does. Nothing of the local queue is left in etcd. rested says that the
// worker has listened, and no waiter has joined. The channel wakes a worker that listens.
func (l *Queue) Next(rested bool) (next Next, joined <-chan struct{}) {
	m := l.table
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.Life.Err() != nil {
		l.failWaiters(nil, context.Cause(m.cfg.Life))
	}
	l.endWait()
	l.vacate()
	switch {
	case l.waiters.count > 0:
		return Serve, nil
	case !rested && m.gate.state == open && !l.Private() && m.locals.undriven < MaxIdle:
		select {
		case <-l.worker.joined: // a wake-up is of no use any more
		default:
		}
		if !l.listens() {
			l.rest()
			return Leave, nil
		}
		if l.worker.joined == nil {
			l.worker.joined = make(chan struct{}, 1)
		}
		m.locals.rests(true)
		return Listen, l.worker.joined
	case l.posts():
		return Withdraw, nil
	default:
		l.forget()
		for i, slot := range l.Slots() {
			m.DropSlot(l.Names()[i], slot)
		}
		m.gate.wake()
		return Close, nil
	}
}

// Listened ends what Listen began.
func (l *Queue) Listened() {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.table.locals.rests(false)
}

// Ended ends the worker.
func (l *Queue) Ended() {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.drive(driverNone)
}

// Want begins the time in which a waiter is in the local queue.
func (l *Queue) Want() *lazyctx.Context {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.pending = &pending{}
	l.pending.Wanted.Within(l.table.cfg.Life)
	if l.waiters.count == 0 {
		l.unwanted()
	}
	return &l.pending.Wanted
}

// First returns the first waiter, nil if there is none. All waiters wait under this lease from now
// on.
func (l *Queue) First(ls *lease.Lease) *Waiter {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.waitUnder(ls)
	l.pending.served = l.front()
	return l.pending.served
}

// waitUnder has all waiters wait under a lease from now on. Called with Table.mu held.
func (l *Queue) waitUnder(ls *lease.Lease) {
	for w := l.waiters.first; w != nil; w = w.next {
		w.under = ls
	}
}

// Successor returns the waiter that the entry of another one serves now; nil if there is none.
func (l *Queue) Successor(of *Waiter) *Waiter {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return l.successor(of)
}

// SpeakOf makes the entry name the holds of a waiter. If the waiter has given up by now, the entry
// is outdated at once.
func (l *Queue) SpeakOf(w *Waiter) {
	l.info().speaksOf(w.Carried.holders())
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if next := l.front(); next != nil && next != w && (w.Carried != nil || next.Carried != nil) {
		l.info().outdated()
	}
}

// SpeakOfNone notes that the entry waits no longer.
func (l *Queue) SpeakOfNone() { l.info().speaksOf(nil) }

// UntilOutdated returns a context that ends with ctx, and when the entry is to be written again.
func (l *Queue) UntilOutdated(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	return l.info().wait(ctx)
}

// Grant gives the entry of an attempt to the first waiter. as is the identity that the value of the key
// is made for. If the waiter has another one, Grant returns the waiter and no ownership: its own value
// is to be written first. It returns neither if no waiter can use the entry any more.
func (l *Queue) Grant(a *Attempt, rev int64, as string) (t *Ownership, write *Waiter) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	w := l.successor(a.Of)
	if w == nil {
		return nil, nil
	}
	if w.Identity != as {
		return nil, w
	}
	by := l.path()
	t = l.begin(a, rev, w)
	l.grantTo(t, w, by)
	if t.mode() == wire.Shared {
		t.grantReaders(l)
	}
	if t != l.owned && t.life.Cause() != nil { // since the look at the lease, and nothing else tells
		t.leave()
	}
	return t, nil
}

// Ends returns channels that are closed when a goroutine is to finish the ownership, and when its key is
// kept for the first time.
func (t *Ownership) Ends() (left, kept <-chan struct{}) {
	m := t.local.table
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.retention == nil {
		t.retention = &retention{}
	}
	return t.left.Done(), t.retention.retained.Done()
}

// Watched leaves an ownership that the worker drives to its holder and the keeper. listened says that
// the worker has listened to the watch of the queue, and err why this watch has failed. If the ownership
// has ended, Watched returns false, and the worker finishes it.
func (l *Queue) Watched(t *Ownership, listened bool, err error) bool {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if t.left.IsSet() || t.life.Cause() != nil {
		return false
	}
	l.endWait()
	switch {
	case err != nil:
		l.drive(driverKeeper)
	case listened || t.retention.begun():
		t.lasts()
	default:
		t.unattended()
	}
	return true
}

// Leaving notes that the worker deletes an entry that was not granted.
func (l *Queue) Leaving() {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.become(leaving)
}
