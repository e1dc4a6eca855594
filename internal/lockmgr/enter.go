package lockmgr

import (
	"context"
	"errors"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// attempt is an entry that the worker makes for a waiter.
type attempt struct {
	*local.Attempt
	found adoption.Found // of the former process, when the slot was taken
}

// requests is how many unanswered requests may still write the entry.
func (a *attempt) requests() int {
	if a.Over {
		return 0
	}
	return 1
}

// newAttempt begins to enter for a waiter. It takes over the key of a former process, if one fits.
func (l line) newAttempt(wanted *lazyctx.Context, ls *lease.Lease, w *local.Waiter) *attempt {
	a := &attempt{Attempt: &local.Attempt{Lease: ls, Of: w}}
	if l.mayInherit(ls) {
		ctx, stop := until(wanted, ls)
		defer stop()
		a.found = l.Fit(ctx, adoption.Entry{Names: l.Names(), Slots: l.Slots(), Want: w.Wants(ls, w.Rank)})
	}
	switch {
	case l.Private():
		if a.found.Slots != nil {
			l.changeSlots(a.found.Slots)
		}
		a.Slot = l.Slots()[0]
	case a.found.Slots != nil:
		a.Slot = a.found.Slots[0]
	default:
		a.Slot = l.takeSlot(wanted, ls, w)
	}
	return a
}

// takeSlot chooses the key for a waiter: the first one of the session, unless the waiter can hold
// beside that, or is to be marked. It waits for the sweeper, which may have the first key: an entry with
// another key would wait for it in etcd.
func (l line) takeSlot(wanted *lazyctx.Context, ls *lease.Lease, w *local.Waiter) wire.Slot {
	if l.Marks(&w.Call) {
		if slot, ok := l.takeMarked(ls.Context(), ls); ok {
			return slot
		}
	}
	for w.Rule == nil {
		held, swept := l.names.Hold(l.Name(), w.Rank)
		switch {
		case held:
			return w.Rank
		case swept == nil || wanted.Cause() != nil:
			return l.names.Take(l.Name(), w.Rank)
		}
		select {
		case <-swept:
		case <-wanted.Context().Done():
		}
	}
	return l.names.Take(l.Name(), w.Rank)
}

// takeMarked takes a marked key, once the inbox is ready. It returns false if the inbox cannot be watched soon,
// or if ctx ends, or if the sweeper has both keys.
func (l line) takeMarked(ctx context.Context, ls *lease.Lease) (slot wire.Slot, ok bool) {
	if !l.Single.Listens(ctx, ls.ID()) {
		return wire.Slot{}, false
	}
	for n := range 2 {
		if held, _ := l.names.Hold(l.Name(), wire.MarkedSlot(n)); held {
			return wire.MarkedSlot(n), true
		}
	}
	return wire.Slot{}, false
}

// changeSlots changes the slots of a private local queue to those of an entry that it has taken over.
func (l line) changeSlots(to []wire.Slot) {
	for i, slot := range l.Slots() {
		if slot != to[i] {
			l.DropSlot(l.Names()[i], slot)
		}
	}
	l.Use(to)
}

// mayInherit tells whether a key of the former process may stand under a name of the local queue.
func (l line) mayInherit(ls *lease.Lease) bool {
	return l.MayStand(ls.ID(), l.Names()...)
}

// clearWay deletes the keys of the former process that are in the way of an attempt. e is its entry, or
// nil if it was refused. clearWay returns false if there were no such keys.
func (l line) clearWay(wanted *lazyctx.Context, a *attempt, want queue.Want, e *queue.Entry) (cleared bool) {
	if !l.mayInherit(a.Lease) {
		return false
	}
	ctx, stop := until(wanted, a.Lease)
	defer stop()
	return l.Clear(ctx, a.Lease, adoption.Entry{Names: l.Names(), Want: want, Entry: e}, a.found)
}

// until returns a context that ends with a lease, and when no waiter is left.
func until(wanted *lazyctx.Context, ls *lease.Lease) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ls.Context())
	stop := context.AfterFunc(wanted.Context(), func() { cancel(local.ErrUnwanted) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// certain tells whether an entry that was found proves that the one unanswered request has taken
// effect, so that it cannot do so later. It does if no earlier request can have written the entry.
func (l line) certain(a *attempt, slot wire.Slot, e *queue.Entry) bool {
	return e != nil && (a.Over || e.Adopted() && !l.sweeper.Uncertain(a.Lease, l.Name(), slot))
}

// enter puts the key of the session into the queue, and waits until the entry is granted. rev is
// the proof. The requests run under the lease, and not under the context of a caller: a cancelled
// one could still be applied after it was looked for (traps A4, B2). After an error the entry that the
// attempt has then stands in etcd. The entry of a first attempt was written before.
func (l line) enter(wanted *lazyctx.Context, a *attempt) (rev int64, err error) {
	ls, w := a.Lease, a.Of
	if !w.Try {
		l.SpeakOf(w)
		defer l.SpeakOfNone()
	}
	want := w.Wants(ls, a.Slot)
	if a.Entry == nil {
		a.Entry, err = l.write(wanted, a, want)
		if errors.Is(err, queue.ErrUnmarked) {
			want = l.unmark(wanted, a)
			a.Entry, err = l.write(wanted, a, want)
		}
	}
	switch {
	case err != nil:
		return 0, err
	case w.Try:
		return l.tried(wanted, a, want)
	case a.Entry.First():
		return a.Entry.CreateRevision, nil
	}
	if wanted.Cause() != nil {
		return 0, local.ErrUnwanted // while the key was written
	}
	l.clearWay(wanted, a, want, a.Entry)
	l.Block(a.Entry)
	calm := func() {}
	defer func() { calm() }()
	for {
		if rev, a.Waited = a.Waited, 0; rev == 0 {
			rev, err = l.wait(wanted, ls, w, a.Entry)
		}
		if err != nil || !w.Candidate {
			return rev, err
		}
		lead, err := l.mayLead(wanted, ls, a.Entry)
		if err != nil || lead {
			return rev, err
		}
		a.found = adoption.Found{} // the preferred one may have come since
		if l.clearWay(wanted, a, want, a.Entry) {
			continue // no other candidate may be preferred now
		}
		want.Slot = l.names.Take(l.Name(), a.Slot)
		behind, unsure, err := l.Single.StepBehind(ls.Context(), a.Entry, want)
		if unsure {
			l.suspect(ls, want.Slot, sweeper.Many, sweeper.First)
		}
		if err != nil {
			l.dropSlot(want.Slot)
			return 0, err
		}
		l.dropSlot(a.Slot)
		before, now := calm, l.sweeper.Urge(ls, l.Name(), a.Slot)
		calm = func() { before(); now() }
		a.Entry, a.Slot = behind, want.Slot
		l.WaitsWith(behind)
	}
}

// unmark returns what an attempt enters with after etcd has refused the inbox of its marked entry. It goes
// on with a key of the former process nevertheless, because it would wait for that one.
func (l line) unmark(wanted *lazyctx.Context, a *attempt) queue.Want {
	if a.found.Slots == nil {
		l.dropSlot(a.Slot)
		a.Slot = l.takeSlot(wanted, a.Lease, a.Of)
	}
	return a.Of.Wants(a.Lease, a.Slot)
}

// tried looks whether the entry of a try is granted.
func (l line) tried(wanted *lazyctx.Context, a *attempt, want queue.Want) (rev int64, err error) {
	granted, rev, err := l.Place().Granted(a.Lease.Context(), a.Entry)
	if err == nil && !granted && l.clearWay(wanted, a, want, a.Entry) {
		granted, rev, err = l.Place().Granted(a.Lease.Context(), a.Entry)
	}
	if err == nil && !granted {
		err = &queue.TakenError{Obstacle: a.Entry.Obstacle()}
	}
	return rev, err
}

// write writes the entry of an attempt. The sweeper looks for what an unanswered request may leave.
func (l line) write(wanted *lazyctx.Context, a *attempt, want queue.Want) (*queue.Entry, error) {
	ls := a.Lease
	enter := l.Place().Enter
	if a.Of.Try {
		enter = l.Place().TryEnter
	}
	e, unsure, err := enter(ls.Context(), want)
	if errors.Is(err, queue.ErrTaken) && l.clearWay(wanted, a, want, nil) {
		var again bool
		e, again, err = enter(ls.Context(), want)
		unsure = unsure || again
	}
	a.Of.Entered(e)
	if e != nil && e.Adopted() {
		l.sweeper.Found(ls, l.Name(), want.Slot)
	}
	switch {
	case unsure:
		l.suspect(ls, want.Slot, sweeper.Many, sweeper.First)
	case a.Unsure && !l.certain(a, want.Slot, e):
		l.suspect(ls, want.Slot, a.requests(), sweeper.First)
	}
	return e, err
}

// mayLead asks whether a candidate at the front of the queue leads.
func (l line) mayLead(wanted *lazyctx.Context, ls *lease.Lease, e *queue.Entry) (bool, error) {
	ctx, stop := until(wanted, ls)
	defer stop()
	return l.Single.MayLead(ctx, e)
}

// wait waits until the entry is granted. The holds that its value names are kept up to date, see
// holdInfo.
func (l line) wait(wanted *lazyctx.Context, ls *lease.Lease, of *local.Waiter, e *queue.Entry) (rev int64, err error) {
	check := func(ctx context.Context) error { return l.checkCycle(ctx, of, e) }
	for {
		waiting, cancel := l.UntilOutdated(ls.Context())
		stop := context.AfterFunc(wanted.Context(), func() { cancel(local.ErrUnwanted) })
		if err = check(waiting); err == nil {
			check = func(context.Context) error { return nil } // it was the last one to come
			rev, err = l.Place().Await(waiting, e)
		}
		stop()
		cancel(nil)
		if !errors.Is(err, local.ErrOutdated) {
			return rev, err
		}
		w := l.Successor(of)
		if w == nil {
			return 0, local.ErrUnwanted
		}
		l.SpeakOf(w)
		if err := l.rewrite(ls, e, w); err != nil {
			return 0, err
		}
	}
}

// checkCycle fails with a CycleError if entry e of w closes a cycle of waits and is the youngest in
// this cycle.
func (l line) checkCycle(ctx context.Context, w *local.Waiter, e *queue.Entry) error {
	if w.Cycle == nil || w.Carried == nil {
		return nil
	}
	cycle, err := deadlock.CycleOf(ctx, l.cfg.KV, *w.Cycle, e)
	if err != nil || cycle == nil { // an entry that has gone is noticed by its wait
		return err
	}
	return &CycleError{Cycle: cycle}
}

// rewrite gives an entry the value of a waiter.
func (l line) rewrite(ls *lease.Lease, e *queue.Entry, w *local.Waiter) error {
	if w.Rule != nil { // on which the value may depend
		return l.cfg.Queues.RewriteFor(ls.Context(), e, queue.Want{Value: w.MakeValue(), Rule: w.Rule})
	}
	return l.cfg.Queues.Rewrite(ls.Context(), e, w.MakeValue())
}
