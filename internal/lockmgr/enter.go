package lockmgr

import (
	"context"
	"errors"
	"time"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// newAttempt begins to enter for a waiter. It takes over the key of a former process, if one fits.
func (l *localQueue) newAttempt(wanted *lazyctx.Context, ls *lease.Lease, w *waiter) *attempt {
	a := &attempt{lease: ls, of: w}
	if l.mayInherit(ls) {
		ctx, stop := until(wanted, ls)
		defer stop()
		a.found = l.manager.Fit(ctx, adoption.Entry{Names: l.names, Slots: l.slots, Want: w.wants(ls, w.Rank)})
	}
	switch {
	case l.private():
		if a.found.Slots != nil {
			l.changeSlots(a.found.Slots)
		}
		a.slot = l.slots[0]
	case a.found.Slots != nil:
		a.slot = a.found.Slots[0]
	default:
		a.slot = l.takeSlot(wanted, w)
	}
	return a
}

// takeSlot chooses the key for a waiter: the first one of the session, unless the waiter can hold
// beside that. It waits for the sweeper, which may have that key: an entry with another key would
// wait for it in etcd.
func (l *localQueue) takeSlot(wanted *lazyctx.Context, w *waiter) wire.Slot {
	names := l.manager.names
	for w.Rule == nil {
		held, swept := names.Hold(l.name, w.Rank)
		switch {
		case held:
			return w.Rank
		case swept == nil || wanted.Cause() != nil:
			return names.Take(l.name, w.Rank)
		}
		select {
		case <-swept:
		case <-wanted.Context().Done():
		}
	}
	return names.Take(l.name, w.Rank)
}

// mayInherit tells whether a key of the former process may stand under a name of the local queue.
func (l *localQueue) mayInherit(ls *lease.Lease) bool {
	return l.manager.MayStand(ls.ID(), l.names...)
}

// clearWay deletes the keys of the former process that are in the way of an attempt. e is its entry, or
// nil if it was refused. clearWay returns false if there were no such keys.
func (l *localQueue) clearWay(wanted *lazyctx.Context, a *attempt, want queue.Want, e *queue.Entry) (cleared bool) {
	if !l.mayInherit(a.lease) {
		return false
	}
	ctx, stop := until(wanted, a.lease)
	defer stop()
	return l.manager.Clear(ctx, a.lease, adoption.Entry{Names: l.names, Want: want, Entry: e, List: l.single.AwaitList}, a.found)
}

// until returns a context that ends with a lease, and when no waiter is left.
func until(wanted *lazyctx.Context, ls *lease.Lease) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ls.Context())
	stop := context.AfterFunc(wanted.Context(), func() { cancel(errUnwanted) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// dropSlot gives up a key of which nothing is left in etcd, or which is uncertain. A private local
// queue keeps its keys for as long as it lives.
func (l *localQueue) dropSlot(slot wire.Slot) {
	if !l.private() {
		l.manager.dropSlot(l.name, slot)
	}
}

// dropSlot gives up a slot of which nothing is left in etcd, or only an uncertain key. Another owner may
// take it at once.
func (m *Manager) dropSlot(name string, slot wire.Slot) {
	m.names.Drop(name, slot)
	m.sweeper.Dropped(name, slot)
}

// suspect makes the key of a slot uncertain, or the keys of a local queue for several names; see
// Sweeper.SuspectAll.
func (l *localQueue) suspect(ls *lease.Lease, slot wire.Slot, requests int, first time.Duration) {
	slots := []wire.Slot{slot}
	if l.single == nil {
		slots = l.slots
	}
	l.manager.sweeper.SuspectAll(ls, l.names, slots, requests, first)
}

// certain tells whether an entry that was found proves that the one unanswered request has taken
// effect, so that it cannot do so later. It does if no earlier request can have written the entry.
func (l *localQueue) certain(ls *lease.Lease, slot wire.Slot, e *queue.Entry) bool {
	return e != nil && e.Adopted() && !l.manager.sweeper.Uncertain(ls, l.name, slot)
}

// enter puts the key of the session into the queue, and waits until the entry is granted. rev is
// the proof. The requests run under the lease, and not under the context of a caller: a cancelled
// one could still be applied after it was looked for (traps A4, B2). After an error the entry that the
// attempt has then stands in etcd. The entry of a first attempt was written before.
func (l *localQueue) enter(wanted *lazyctx.Context, a *attempt) (rev int64, err error) {
	ls, w := a.lease, a.of
	if !w.Try {
		l.speakOf(w)
		defer l.info.end()
	}
	want := w.wants(ls, a.slot)
	if a.entry == nil {
		a.entry, err = l.write(wanted, a, want)
	}
	switch {
	case err != nil:
		return 0, err
	case w.Try:
		return l.tried(wanted, a, want)
	case a.entry.First():
		return a.entry.CreateRevision, nil
	}
	if wanted.Cause() != nil {
		return 0, errUnwanted // while the key was written
	}
	l.clearWay(wanted, a, want, a.entry)
	l.block(a.entry)
	calm := func() {}
	defer func() { calm() }()
	for {
		rev, err = l.wait(wanted, ls, w, a.entry)
		if err != nil || !w.Candidate {
			return rev, err
		}
		lead, err := l.mayLead(wanted, ls, a.entry)
		if err != nil || lead {
			return rev, err
		}
		a.found = adoption.Found{} // the preferred one may have come since
		if l.clearWay(wanted, a, want, a.entry) {
			continue // no other candidate may be preferred now
		}
		want.Slot = l.manager.names.Take(l.name, a.slot)
		behind, unsure, err := l.single.StepBehind(ls.Context(), a.entry, want)
		if unsure {
			l.suspect(ls, want.Slot, sweeper.Many, sweeper.First)
		}
		if err != nil {
			l.dropSlot(want.Slot)
			return 0, err
		}
		l.dropSlot(a.slot)
		before, now := calm, l.manager.sweeper.Urge(ls, l.name, a.slot)
		calm = func() { before(); now() }
		a.entry, a.slot = behind, want.Slot
		l.waitsWith(behind)
	}
}

// tried looks whether the entry of a try is granted.
func (l *localQueue) tried(wanted *lazyctx.Context, a *attempt, want queue.Want) (rev int64, err error) {
	granted, rev, err := l.queue.Granted(a.lease.Context(), a.entry)
	if err == nil && !granted && l.clearWay(wanted, a, want, a.entry) {
		granted, rev, err = l.queue.Granted(a.lease.Context(), a.entry)
	}
	if err == nil && !granted {
		err = &queue.TakenError{Obstacle: a.entry.Obstacle()}
	}
	return rev, err
}

// write writes the entry of an attempt. The sweeper looks for what an unanswered request may leave.
func (l *localQueue) write(wanted *lazyctx.Context, a *attempt, want queue.Want) (*queue.Entry, error) {
	ls := a.lease
	enter := l.queue.Enter
	if a.of.Try {
		enter = l.queue.TryEnter
	}
	e, unsure, err := enter(ls.Context(), want)
	if errors.Is(err, queue.ErrTaken) && l.clearWay(wanted, a, want, nil) {
		var again bool
		e, again, err = enter(ls.Context(), want)
		unsure = unsure || again
	}
	switch {
	case unsure:
		l.suspect(ls, want.Slot, sweeper.Many, sweeper.First)
	case a.unsure && !l.certain(ls, want.Slot, e):
		l.suspect(ls, want.Slot, 1, sweeper.First)
	}
	return e, err
}

// mayLead asks whether a candidate at the front of the queue leads.
func (l *localQueue) mayLead(wanted *lazyctx.Context, ls *lease.Lease, e *queue.Entry) (bool, error) {
	ctx, stop := until(wanted, ls)
	defer stop()
	return l.single.MayLead(ctx, e)
}

// wait waits until the entry is granted. The holds that its value names are kept up to date, see
// holdInfo.
func (l *localQueue) wait(wanted *lazyctx.Context, ls *lease.Lease, of *waiter, e *queue.Entry) (rev int64, err error) {
	check := func(ctx context.Context) error { return l.checkCycle(ctx, of, e) }
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

// checkCycle fails with a CycleError if entry e of w closes a cycle of waits and is the youngest in
// this cycle.
func (l *localQueue) checkCycle(ctx context.Context, w *waiter, e *queue.Entry) error {
	if w.Cycle == nil || w.Carried == nil {
		return nil
	}
	cycle, err := deadlock.CycleOf(ctx, l.manager.cfg.KV, *w.Cycle, e)
	if err != nil || cycle == nil { // an entry that has gone is noticed by its wait
		return err
	}
	return &CycleError{Cycle: cycle}
}

// speakOf makes the entry name the holds of a waiter. If the waiter has given up by now, the entry
// is outdated at once.
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
