package lockmgr

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// The fast path. A local queue has a worker only while there is something to wait for. A caller
// that finds a local queue without a driver enters by itself, by one request. If this request is
// the grant, the ownership is not watched while it is young, and then by the keeper of the session.
// The last holder deletes the key and leaves the local queue idle again. A free lock needs no other
// goroutine, and no switch to one.
//
//	idle ──▶ a caller enters ──▶ held, unwatched ──▶ held, guarded ──▶ the last holder leaves ──▶ idle
//	               │                   │                   │                    │
//	               ▼                   ▼                   ▼                    ▼
//	                the worker (worker.go) goes on from any of these steps
//
// Exactly one of them drives the local queue at any time: the caller, the holder, the keeper or the
// worker; see driver.

// attempt is a request that a caller has begun.
type attempt struct {
	lease  *lease.Lease
	slot   wire.Slot
	of     *waiter
	found  adoption.Found  // of the former process, when the slot was taken
	entry  *queue.Entry    // nil: none is known to stand
	unsure bool            // true: an entry may stand, or may come later
	wanted lazyctx.Context // ends when no waiter is left for it
}

// attempt makes a waiter that has just joined the driver of the local queue. It returns nil if the
// worker has to act, which it starts. Called with Manager.mu held.
func (l *localQueue) attempt(w *waiter) *attempt {
	m := l.manager
	if w.Rule != nil || w.Carried != nil || w.under == nil || m.MayStand(w.under.ID(), l.name) || // a key of it may stand already
		w.hurries() {
		l.work(nil)
		return nil
	}
	if held, _ := m.names.Hold(l.name, w.Rank); !held {
		l.work(nil)
		return nil
	}
	l.drive(driverCaller)
	a := &attempt{lease: w.under, slot: w.Rank, of: w}
	a.wanted.Within(m.cfg.Life)
	l.serves(w, &a.wanted)
	return a
}

// enterAlone makes the attempt. It returns the hold if that was the grant, and nil if the waiter
// has to wait.
//
// The request is cut off when the caller cancels. Then it may have taken effect, or may later, and
// the worker finds out and takes it back (traps A4, B2).
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
		if ctx.Err() != nil {
			_, _ = l.giveUp(a.of) // before the worker would enter for a caller that is leaving
		}
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

// refused fails the callers of an attempt that etcd has refused.
func (l *localQueue) refused(a *attempt, err error) {
	m := l.manager
	l.fail(&a.wanted, a.lease, a.of, a.entry, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropSlot(l.name, a.slot)
	l.endWait()
	if l.waiters.Len() > 0 {
		l.work(nil)
		return
	}
	l.rest()
}

// resume goes on with an attempt, in the worker.
func (a *attempt) resume(l *localQueue) (drives bool) {
	if a.entry == nil && a.wanted.Cause() != nil {
		if a.unsure {
			l.suspect(a.lease, a.slot, 1, sweeper.Soon)
		}
		l.dropSlot(a.slot)
		return true
	}
	return l.serveAttempt(&a.wanted, a)
}

// unattended grants the entry of an attempt, and makes the holder the driver. It returns nil if the
// worker has to act.
func (l *localQueue) unattended(a *attempt) *Hold {
	_ = a.lease.Err() // ends it if its time is over
	l.manager.mu.Lock()
	if l.front() != a.of || a.lease.Context().Err() != nil {
		l.manager.mu.Unlock()
		return nil // the session is about to end
	}
	t := l.begin(a, a.entry.CreateRevision, a.of)
	t.grantTo(a.of, PathFree)
	t.unattended()
	l.manager.mu.Unlock()
	return a.of.given.hold
}
