package lockmgr

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// The fast path. A local queue has a goroutine only while there is something to wait for. Who finds
// a local queue at rest enters for himself, by one request; if that is the grant, nobody looks
// after the ownership while it is young; and if it is over by then, the last holder has deleted the
// key, and leaves the local queue at rest again. A lock that nobody else wants needs no other
// goroutine, and no switch to one.
//
//	at rest ──▶ a caller enters ──▶ held, unattended ──▶ the last holder leaves ──▶ at rest
//	                  │                     │                       │
//	                  ▼                     ▼                       ▼
//	           the local queue's goroutine (serve.go) goes on from wherever it is
//
// Exactly one of them has the local queue at any time: the caller, the ownership, or the goroutine.
// Who has it is counted in the session's tasks, and may hand it on by starting the goroutine.

// attempt is what a caller has begun.
type attempt struct {
	lease  *lease.Lease
	slot   wire.Slot
	of     *waiter
	entry  *queue.Entry    // nil: none is known to stand
	unsure bool            // it may stand all the same, or may come yet
	wanted lazyctx.Context // ends when nobody is left whom it serves
}

// attempt gives the local queue, which nobody has, to a waiter who has just joined; nil if the
// goroutine has to do it, which it starts. Called with Manager.mu held.
func (l *localQueue) attempt(w *waiter) *attempt {
	m := l.manager
	if w.Rule != nil || w.Carried != nil || w.under == nil || m.mayInherit(w.under, l.name) || // whose key may stand already
		m.slots.busy(l.name, w.Rank) || w.hurries() {
		l.start()
		return nil
	}
	l.take()
	m.slots.hold(l.name, w.Rank)
	a := &attempt{lease: w.under, slot: w.Rank, of: w}
	a.wanted.Within(m.cfg.Life)
	l.served, l.wanted = w, &a.wanted
	return a
}

// enterAlone makes the attempt, and returns when etcd has answered, or ctx has ended; with the
// hold if that was the grant, else the waiter has to wait.
//
// It is cut off when the caller cancels. Then it may have taken effect, or may yet, and the
// local queue's goroutine finds out and takes it back (traps A4, B2).
func (l *localQueue) enterAlone(ctx context.Context, a *attempt) *Hold {
	err := l.request(ctx, a)
	switch {
	case err == nil && a.entry != nil && a.entry.First():
		if h := l.unattended(a); h != nil {
			return h
		}
	case err != nil && answer.Final(err):
		l.refused(a, err)
		return nil
	case err != nil:
		a.entry, a.unsure = nil, true
	}
	go l.run(a.resume)
	return nil
}

// request is the one request of an attempt.
func (l *localQueue) request(ctx context.Context, a *attempt) (err error) {
	once := l.single.EnterOnce
	if a.of.Try {
		once = l.single.TryEnterOnce
	}
	bounded, pooled := l.manager.cfg.Writer.RequestContext(a.lease.Context(), ctx)
	defer pooled.Release()
	returned := false
	defer func() {
		if !returned { // the client's code has panicked, or ended this goroutine
			a.entry, a.unsure = nil, true
			_, _ = l.giveUp(a.of)
			go l.run(a.resume)
		}
	}()
	a.entry, err = once(bounded, a.of.wants(a.lease, a.slot))
	returned = true
	return err
}

// refused tells whom it concerns that the attempt was refused.
func (l *localQueue) refused(a *attempt, err error) {
	m := l.manager
	l.fail(&a.wanted, a.lease, a.of, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropSlot(l.name, a.slot)
	l.served, l.wanted = nil, nil
	if l.waiters.Len() > 0 || m.admission != open {
		go l.run(nil)
		return
	}
	l.idle()
}

// resume goes on with an attempt, in the local queue's goroutine.
func (a *attempt) resume(l *localQueue) {
	defer l.done()
	if a.entry == nil && a.wanted.Cause() != nil {
		if a.unsure {
			l.suspect(a.lease, a.slot, 1, soonSweep)
		}
		l.dropSlot(a.slot)
		return
	}
	l.serveAttempt(&a.wanted, a)
}

// unattended grants the entry of an attempt, and leaves the ownership to itself; nil if the
// local queue's goroutine has to see to it.
func (l *localQueue) unattended(a *attempt) *Hold {
	_ = a.lease.Err() // ends it if its time is over
	l.manager.mu.Lock()
	if l.front() != a.of || a.lease.Context().Err() != nil {
		l.manager.mu.Unlock()
		return nil // the session is about to end
	}
	t := l.begin(a.lease, a.entry, a.entry.CreateRevision, a.of, a.slot)
	t.grantTo(a.of)
	l.wanted = nil
	l.manager.mu.Unlock()
	l.manager.settle.Set(&l.settled, l)
	l.young.Store(t)
	if t.stay.Cause() != nil || time.Since(t.since) >= queue.Settle {
		l.attend() // whoever wanted that may have come before the ownership was there to be found
	}
	return a.of.given.hold
}

// attend has the local queue's goroutine look after an ownership that nobody has looked after so
// far; false if there is none.
func (l *localQueue) attend() bool {
	t := l.young.Swap(nil)
	if t == nil {
		return false
	}
	go l.run(func(l *localQueue) {
		l.settled.Stop()
		l.want()
		defer l.done()
		l.watch(t)
	})
	return true
}

// attendAll is attend for all local queues, as their lease has ended. Called with m.mu held.
func (m *Manager) attendAll() {
	for _, l := range m.locals {
		l.attend()
	}
}

// leftAlone takes note that the key of an unattended ownership is gone, and leaves the local queue
// at rest; false if there is more to do. Called with Manager.mu held.
func (l *localQueue) leftAlone(t *ownership) bool {
	m := l.manager
	if t != l.owned || l.waiters.Len() > 0 || m.admission != open || !l.young.CompareAndSwap(t, nil) {
		return false
	}
	l.settled.Stop()
	l.owned, l.served, l.blocked, l.waiting = nil, nil, false, nil
	t.life.Cancel(lockerr.ErrReleased)
	t.settled.Set()
	m.dropSlot(l.name, t.slot)
	l.idle()
	return true
}
