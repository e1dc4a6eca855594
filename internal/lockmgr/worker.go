package lockmgr

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// run goes on with what has begun, and serves the local queue until nobody is in it and nothing is
// left of it.
func (l *localQueue) run(begun func(*localQueue)) {
	if begun != nil {
		begun(l)
	}
	for l.next() {
		l.serve()
	}
}

// next blocks until a waiter is in the local queue. It returns false when the worker does not drive
// any more: the local queue is closed, or idle. With a watch that is kept, the worker first listens
// for a while, for the next caller.
func (l *localQueue) next() bool {
	m := l.manager
	for listened := false; ; {
		if m.cfg.Life.Err() != nil {
			l.failAll(nil, m.err())
		}
		m.mu.Lock()
		l.done()
		switch {
		case l.waiters.Len() > 0:
			m.mu.Unlock()
			return true
		case !listened && m.admission == open && !l.private() && m.undriven < MaxIdle:
			l.drain()
			if !l.single.Watches() {
				l.rest()
				m.mu.Unlock()
				return false
			}
			m.undriven++
			m.mu.Unlock()
			listened = !l.queue.Rest(l.joined)
			m.mu.Lock()
			m.undriven--
			m.mu.Unlock()
		default:
			l.forget()
			for i, slot := range l.slots {
				m.dropSlot(l.names[i], slot)
			}
			m.wakeDrain()
			m.mu.Unlock()
			l.queue.Close()
			m.mu.Lock()
			l.drive(undriven)
			m.mu.Unlock()
			return false
		}
	}
}

// drain takes back a wake-up that is of no use any more. Called with Manager.mu held.
func (l *localQueue) drain() {
	select {
	case <-l.joined:
	default:
	}
}

// serve brings one waiter to its end: a grant that is over, or that has left the local queue; or an
// error. On the way it may become another waiter's turn, if the first gives up.
func (l *localQueue) serve() {
	wanted := l.want()

	ls, err := l.manager.awaitLease(wanted)
	if err != nil {
		return // nobody wants it any more, or the session has ended
	}
	first := l.first(ls)
	if first == nil || first.Mode == wire.Shared && l.shareAgain(ls) {
		return
	}
	l.serveAttempt(wanted, &attempt{lease: ls, slot: l.takeSlot(wanted, ls, first), of: first})
}

// serveAttempt is serve from when it is known for whom, under which lease and by which key.
func (l *localQueue) serveAttempt(wanted *lazyctx.Context, a *attempt) {
	ls, first, slot := a.lease, a.of, a.slot
	entry, rev, err := l.enter(wanted, a, &slot)
	if err == nil {
		var t *ownership
		if t, err = l.grant(ls, entry, rev, first, slot); t != nil {
			if t == l.owned {
				l.watch(t)
			}
			return
		}
	}
	l.fail(wanted, ls, first, err)
	// When the session has ended the key goes with the lease.
	if entry != nil && ls.Err() == nil && l.manager.cfg.Life.Err() == nil {
		l.manager.mu.Lock()
		l.become(leaving)
		l.manager.mu.Unlock()
		if refused, _ := l.leave(ls, l.queue, entry, false); refused {
			l.suspect(ls, slot, 1, firstSweep)
		}
	}
	l.dropSlot(slot)
}

// takeSlot chooses the key for a waiter: the session's first one, unless it can be held
// beside that. It waits for the sweeper, which may have that key: another one would have to wait
// for it in etcd.
func (l *localQueue) takeSlot(wanted *lazyctx.Context, ls *lease.Lease, w *waiter) wire.Slot {
	if l.private() {
		l.adoptOwn(wanted, ls, w)
		return l.slots[0]
	}
	if slots := l.adopt(wanted, ls, w); slots != nil {
		return slots[0]
	}
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := w.Rank
	for swept := m.underSweep(ls, l.name, slot); w.Rule == nil && swept != nil && wanted.Cause() == nil; swept = m.underSweep(ls, l.name, slot) {
		m.mu.Unlock()
		select {
		case <-swept:
		case <-wanted.Context().Done():
		}
		m.mu.Lock()
	}
	if w.Rule != nil || l.manager.slots.busy(l.name, slot) {
		slot = l.manager.slots.take(l.name, w.Rank)
	} else {
		l.manager.slots.hold(l.name, slot)
	}
	return slot
}

// nextSlot chooses another key for a waiter who has one.
func (l *localQueue) nextSlot(has wire.Slot) wire.Slot {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	return l.manager.slots.take(l.name, has)
}

// dropSlot gives the key up, of which nothing is left in etcd, or nothing that is not
// known to be unsure. A local queue of one's own keeps its keys for as long as it lives.
func (l *localQueue) dropSlot(slot wire.Slot) {
	if !l.private() {
		l.manager.mu.Lock()
		defer l.manager.mu.Unlock()
		l.manager.dropSlot(l.name, slot)
	}
}

// want begins the time in which somebody is in the local queue.
func (l *localQueue) want() *lazyctx.Context {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.wanted = lazyctx.New(l.manager.cfg.Life)
	if l.waiters.Len() == 0 {
		l.unwanted()
	}
	return l.wanted
}

// unwanted tells the local queue's goroutine that nobody is in the local queue any more who wants
// what it waits for. Called with Manager.mu held.
func (l *localQueue) unwanted() {
	if l.wanted != nil {
		l.wanted.Cancel(errUnwanted)
	}
}

// done ends what want began. Nothing of the local queue is left in etcd. Called with Manager.mu held.
func (l *localQueue) done() {
	if l.wanted != nil {
		l.wanted.Release()
	}
	l.wanted, l.served, l.waiting = nil, nil, nil
	l.vacate()
}

// first is the waiter whose turn it is, nil if there is none; all of them wait under
// this lease from now on.
func (l *localQueue) first(ls *lease.Lease) *waiter {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		e.Value.(*waiter).under = ls
	}
	l.served = l.front()
	return l.served
}

// enter puts the session's key into the queue and waits until it may go in; rev is
// the proof. The requests run under the lease, not under a caller's context: one
// that were cancelled could still be applied, after we had looked for its traces
// (traps A4, B2). An entry that is returned with an error stands in etcd; one that is
// an attempt has was written before.
func (l *localQueue) enter(wanted *lazyctx.Context, a *attempt, slot *wire.Slot) (e *queue.Entry, rev int64, err error) {
	ls, w, e := a.lease, a.of, a.entry
	enter := l.queue.Enter
	if w.Try {
		enter = l.queue.TryEnter
	} else {
		l.speakOf(w)
		defer l.info.end()
	}
	want := w.wants(ls, *slot)
	if e == nil {
		var unsure bool
		e, unsure, err = enter(ls.Context(), want)
		if errors.Is(err, queue.ErrTaken) && l.clearWay(wanted, ls, w, nil) {
			var again bool
			e, again, err = enter(ls.Context(), want)
			unsure = unsure || again
		}
		switch {
		case unsure:
			l.suspect(ls, *slot, manyRequests, firstSweep)
		case a.unsure && !l.certain(ls, *slot, e):
			l.suspect(ls, *slot, 1, firstSweep)
		}
	}
	switch {
	case err != nil:
		return e, 0, err
	case w.Try:
		granted, rev, err := l.queue.Granted(ls.Context(), e)
		if err == nil && !granted && l.clearWay(wanted, ls, w, e) {
			granted, rev, err = l.queue.Granted(ls.Context(), e)
		}
		if err == nil && !granted {
			err = &queue.TakenError{Obstacle: e.Obstacle()}
		}
		return e, rev, err
	case e.First():
		return e, e.CreateRevision, nil
	}
	if wanted.Cause() != nil {
		return e, 0, errUnwanted // while the key was written
	}
	l.clearWay(wanted, ls, w, e)
	l.block(e)
	calm := func() {}
	defer func() { calm() }()
	for {
		rev, err = l.wait(wanted, ls, w, e)
		if err != nil || !w.Candidate {
			return e, rev, err
		}
		lead, err := l.mayLead(wanted, ls, e)
		if err != nil || lead {
			return e, rev, err
		}
		l.legacy = legacy{} // the one that is preferred may have come since
		if l.clearWay(wanted, ls, w, e) {
			continue // nobody else may be preferred
		}
		want.Slot = l.nextSlot(*slot)
		behind, unsure, err := l.single.StepBehind(ls.Context(), e, want)
		if unsure {
			l.suspect(ls, want.Slot, manyRequests, firstSweep)
		}
		if err != nil {
			l.dropSlot(want.Slot)
			return e, 0, err
		}
		l.dropSlot(*slot)
		before, now := calm, l.urge(ls, *slot)
		calm = func() { before(); now() }
		e, *slot = behind, want.Slot
		l.waitsWith(e)
	}
}

// mayLead asks whether a candidate whose turn it is leads by it.
func (l *localQueue) mayLead(wanted *lazyctx.Context, ls *lease.Lease, e *queue.Entry) (bool, error) {
	waiting, cancel := context.WithCancelCause(ls.Context())
	defer cancel(nil)
	defer context.AfterFunc(wanted.Context(), func() { cancel(errUnwanted) })()
	return l.single.MayLead(waiting, e)
}

// wait waits until the entry may go in. What it says is kept true meanwhile, see record.
func (l *localQueue) wait(wanted *lazyctx.Context, ls *lease.Lease, of *waiter, e *queue.Entry) (rev int64, err error) {
	check := func(ctx context.Context) error { return l.manager.checkCycle(ctx, of, e) }
	for {
		waiting, cancel := l.info.wait(ls.Context())
		stop := context.AfterFunc(wanted.Context(), func() { cancel(errUnwanted) })
		if err = check(waiting); err == nil {
			check = func(context.Context) error { return nil } // it was the last one to come
			rev, err = l.queue.Await(waiting, e)
		}
		stop()
		cancel(nil)
		if !errors.Is(err, errOutdated) {
			return rev, err
		}
		l.manager.mu.Lock()
		w := l.front()
		l.manager.mu.Unlock()
		if w == nil || !w.inherits(&of.Request) {
			return 0, errUnwanted
		}
		l.speakOf(w)
		if err := l.rewrite(ls, e, w); err != nil {
			return 0, err
		}
	}
}

// speakOf has the record speak of a waiter; unless he has given up by now, of which the record
// has been told too early.
func (l *localQueue) speakOf(w *waiter) {
	l.info.speaksOf(w)
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	if next := l.front(); next != nil && next != w && (w.Carried != nil || next.Carried != nil) {
		l.info.outdated()
	}
}

// rewrite gives an entry the value of a waiter.
func (l *localQueue) rewrite(ls *lease.Lease, e *queue.Entry, w *waiter) error {
	if w.Rule != nil { // on which the value may depend
		return l.single.RewriteFor(ls.Context(), e, queue.Want{Value: w.value(), Rule: w.Rule})
	}
	return l.queue.Rewrite(ls.Context(), e, w.value())
}

// grant gives the entry to the waiter whose turn it is; nil without an error if
// there is none any more, or if he wants something else. of is for whom the key was
// written: whoever inherits the place gets his own value into the key first.
func (l *localQueue) grant(ls *lease.Lease, e *queue.Entry, rev int64, of *waiter, slot wire.Slot) (*ownership, error) {
	for as := of.Identity; ; {
		if err := ls.Err(); err != nil {
			return nil, err
		}
		l.manager.mu.Lock()
		w := l.front()
		if w == nil || !w.inherits(&of.Request) {
			l.manager.mu.Unlock()
			return nil, nil
		}
		if w.Identity == as {
			t := l.begin(ls, e, rev, w, slot)
			t.grantTo(w)
			if t.mode == wire.Shared {
				t.grantReaders(l)
			}
			l.manager.mu.Unlock()
			return t, nil
		}
		l.manager.mu.Unlock()
		if err := l.rewrite(ls, e, w); err != nil {
			return nil, err
		}
		as = w.Identity
	}
}

// leave deletes the key. The error is nil when that is confirmed; otherwise what was lost,
// or why etcd refuses it, so that it is to be tried again. tried says that it may be gone
// by an earlier try of ours.
func (l *localQueue) leave(ls *lease.Lease, q place, e *queue.Entry, tried bool) (refused bool, err error) {
	err = q.Leave(ls.Context(), e, tried)
	switch {
	case err == nil:
		return false, nil
	case ls.Err() != nil:
		return false, notConfirmed(ls.Err())
	case errors.Is(err, lockerr.ErrEvicted):
		return false, whyGone(ls)
	default:
		l.manager.cfg.Log.Error("etcd refuses to delete a key; trying again until its lease ends",
			zap.String("name", l.name), zap.String("key", e.Key), zap.Error(err))
		return true, notConfirmed(err)
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
	return lockerr.Lost(lockerr.ErrEvicted)
}

// fail tells those concerned why nothing was granted.
func (l *localQueue) fail(wanted *lazyctx.Context, ls *lease.Lease, first *waiter, err error) {
	switch {
	case errors.Is(err, lockerr.ErrEvicted):
		l.failAll(ls, whyGone(ls)) // the place is lost, and it was that of all
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		_ = whyGone(ls) // ends it, if etcd answers
		ls.End(lockerr.Lost(lockerr.ErrRevoked))
		l.failAll(ls, ls.Err())
	case ls.Err() != nil:
		l.failAll(ls, ls.Err())
	case err == nil || wanted.Cause() != nil:
		// Nobody is there to be told.
	default:
		l.manager.mu.Lock()
		l.tell(first, outcome{err: err})
		l.manager.mu.Unlock()
	}
}
