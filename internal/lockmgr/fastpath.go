package lockmgr

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
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
		l.work(nil)
		return nil
	}
	l.drive(callerActs)
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
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	l.work(a.resume)
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
			l.manager.mu.Lock()
			defer l.manager.mu.Unlock()
			l.work(a.resume)
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
		l.work(nil)
		return
	}
	l.rest()
}

// resume goes on with an attempt, in the local queue's goroutine.
func (a *attempt) resume(l *localQueue) {
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
	l.drive(holderActs)
	l.manager.settle.Set(&l.settled, l)
	l.manager.mu.Unlock()
	return a.of.given.hold
}

// attend has the worker look after an ownership that its holder drives so far; false if there is
// none. Called with Manager.mu held.
func (l *localQueue) attend() bool {
	if l.driver != holderActs {
		return false
	}
	l.settled.Stop()
	t := l.owned
	if t == nil { // its last holder has deleted the key, and another caller waits
		l.work(nil)
		return true
	}
	l.work(func(l *localQueue) {
		l.want()
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
	if t != l.owned || l.waiters.Len() > 0 || m.admission != open || l.driver != holderActs {
		return false
	}
	l.settled.Stop()
	l.served, l.waiting = nil, nil
	t.settleAs(gone, nil)
	l.rest()
	return true
}
