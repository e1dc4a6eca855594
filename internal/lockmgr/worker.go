package lockmgr

import (
	"errors"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// run goes on with what has begun, and serves the local queue until it is idle.
func (l *localQueue) run(begun func(*localQueue) (drives bool)) {
	drives := true
	if begun != nil {
		drives = begun(l)
	}
	for drives && l.next() {
		drives = l.serve()
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
		case !listened && m.admission == open && !l.private() && m.locals.undriven < MaxIdle:
			l.drain()
			if !l.single.Watches() {
				l.rest()
				m.mu.Unlock()
				return false
			}
			if l.joined == nil {
				l.joined = make(chan struct{}, 1)
			}
			m.locals.rests(true)
			m.mu.Unlock()
			listened = !l.queue.Rest(l.joined)
			m.mu.Lock()
			m.locals.rests(false)
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
			l.drive(driverNone)
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

// serve brings one waiter to its end: to a grant or to an error. If the waiter gives up, its entry may
// go to the next one. It returns false if the worker does not drive any more.
func (l *localQueue) serve() (drives bool) {
	wanted := l.want()

	ls, err := l.manager.awaitLease(wanted)
	if err != nil {
		return true // no waiter is left, or the session has ended
	}
	first := l.first(ls)
	if first == nil || first.Mode == wire.Shared && l.shareAgain(ls) {
		return true
	}
	return l.serveAttempt(wanted, l.newAttempt(wanted, ls, first))
}

// serveAttempt is serve for a waiter, a lease and a key.
func (l *localQueue) serveAttempt(wanted *lazyctx.Context, a *attempt) (drives bool) {
	ls := a.lease
	rev, err := l.enter(wanted, a)
	if err == nil {
		var t *ownership
		if t, err = l.grant(a, rev); t != nil {
			return a.of.Rule != nil && !l.private() || l.watch(t) // l.owned may change from here on
		}
	}
	l.fail(wanted, ls, a.of, a.entry, err)
	// When the session has ended the key goes with the lease.
	if a.entry != nil && ls.Err() == nil && l.manager.cfg.Life.Err() == nil {
		l.manager.mu.Lock()
		l.become(leaving)
		l.manager.mu.Unlock()
		if refused, _ := l.leave(ls, l.queue, a.entry, false); refused {
			l.suspect(ls, a.slot, 1, sweeper.First)
		}
	}
	l.dropSlot(a.slot)
	return true
}

// want begins the time in which a waiter is in the local queue.
func (l *localQueue) want() *lazyctx.Context {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	l.wanted = lazyctx.New(l.manager.cfg.Life)
	if l.waiters.Len() == 0 {
		l.unwanted()
	}
	return l.wanted
}

// serves begins the wait of a first attempt. Called with Manager.mu held.
func (l *localQueue) serves(w *waiter, wanted *lazyctx.Context) { l.served, l.wanted = w, wanted }

// unwanted ends the wait in etcd, as no waiter is left for it. Called with Manager.mu held.
func (l *localQueue) unwanted() {
	if l.wanted != nil {
		l.wanted.Cancel(errUnwanted)
	}
}

// done ends the wait. Nothing of the local queue is left in etcd. Called with Manager.mu held.
func (l *localQueue) done() {
	l.endWait()
	l.waiting = nil
	l.vacate()
}

// endWait ends what want began. Called with Manager.mu held.
func (l *localQueue) endWait() {
	if l.wanted != nil {
		l.wanted.Release()
	}
	l.wanted, l.served = nil, nil
}

// first returns the first waiter, nil if there is none. All waiters wait under this lease from now
// on.
func (l *localQueue) first(ls *lease.Lease) *waiter {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		e.Value.(*waiter).under = ls
	}
	l.served = l.front()
	return l.served
}

// grant gives the entry of an attempt to the first waiter. It returns nil without an error if there is
// none any more, or if it cannot use the entry. Another waiter than the one that the key was written
// for gets its own value into the key first.
func (l *localQueue) grant(a *attempt, rev int64) (*ownership, error) {
	for as := a.of.Identity; ; {
		if err := a.lease.Err(); err != nil {
			return nil, err
		}
		l.manager.mu.Lock()
		w := l.front()
		if w == nil || !w.inherits(&a.of.Request) {
			l.manager.mu.Unlock()
			return nil, nil
		}
		if w.Identity == as {
			by := PathFree
			if l.phase == waiting {
				by = PathQueued
			}
			t := l.begin(a, rev, w)
			t.grantTo(w, by)
			if t.mode == wire.Shared {
				t.grantReaders(l)
			}
			if t != l.owned && t.life.Cause() != nil { // since the look at the lease, and nothing else tells
				t.leave()
			}
			l.manager.mu.Unlock()
			return t, nil
		}
		l.manager.mu.Unlock()
		if err := l.rewrite(a.lease, a.entry, w); err != nil {
			return nil, err
		}
		as = w.Identity
	}
}

// leave deletes the key. The error is nil when that is confirmed. Otherwise it is what was lost, or
// why etcd refuses the deletion, which then is to be tried again. tried says that an earlier try of
// this session may have deleted the key.
func (l *localQueue) leave(ls *lease.Lease, q place, e *queue.Entry, tried bool) (refused bool, err error) {
	err = q.Leave(ls.Context(), e, tried)
	switch {
	case err == nil:
		return false, nil
	case ls.Err() != nil:
		return false, notConfirmed(ls.Err())
	case errors.Is(err, lockerr.ErrEvicted):
		return false, l.manager.whyGone(ls, e)
	default:
		l.manager.cfg.Log.Error("etcd refuses to delete a key; trying again until its lease ends",
			zap.String("name", l.name), zap.String("key", e.Key), zap.Error(err))
		return true, notConfirmed(err)
	}
}
