package lockmgr

import (
	"errors"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// work goes on with what has begun, and serves a local queue until it is idle.
func (m *Manager) work(q *local.Queue, begun local.Begun) {
	l, drives, rested := m.line(q), true, begun.Rested
	confirmed := begun.Finish != nil && m.finish(begun.Finish)
	if begun.Attempt != nil {
		if begun.Finish != nil {
			begun.Attempt.Over = confirmed // it is written only by what deletes that key
			l.GoesOn()
		}
		drives = l.resume(begun.Attempt)
	}
	for drives && l.next(rested) {
		drives, rested = l.serve(), false
	}
}

// next blocks until a waiter is in the local queue. It returns false when the worker does not drive
// any more: the local queue is closed, or idle. With a cache that is kept, the worker first listens for a
// while, for the next caller, unless the local queue has rested.
func (l line) next(rested bool) bool {
	for {
		switch next, joined := l.Next(rested); next {
		case local.Serve:
			return true
		case local.Listen:
			rested = !l.Place().Rest(joined)
			l.Listened()
		case local.Withdraw:
			rested = true
			l.Place().Close() // the next entry is to write its inbox again
			if ls, _ := l.Lease(); ls != nil {
				_ = l.Single.Withdraw(ls.Context()) // after an error it goes with the lease
			}
		case local.Close:
			l.Place().Close()
			l.Ended()
			return false
		default:
			return false
		}
	}
}

// serve brings one waiter to its end: to a grant or to an error. If the waiter gives up, its entry may
// go to the next one. It returns false if the worker does not drive any more.
func (l line) serve() (drives bool) {
	wanted := l.Want()
	ls, err := l.awaitLease(wanted)
	if err != nil {
		return true // no waiter is left, or the session has ended
	}
	first := l.First(ls)
	if first == nil || first.Mode == wire.Shared && l.shareAgain(ls) {
		return true
	}
	return l.serveAttempt(wanted, l.newAttempt(wanted, ls, first))
}

// shareAgain asks etcd whether only readers wait behind the readers of this session. Then the
// readers in the local queue are admitted beside them, and further ones for another time slice. A
// session with many readers therefore has one key, and asks once in a slice. A writer waits for no
// reader that came more than a slice later.
func (l line) shareAgain(ls *lease.Lease) bool {
	readers, ok := l.Readers(l.Name(), ls)
	if !ok {
		return false
	}
	none, err := l.cfg.Queues.Queue(l.Name()).NoneWaits(ls.Context(), readers.Entry)
	if err != nil || !none || ls.Err() != nil {
		return false // an entry of its own, and its errors, tell more
	}
	return l.LetIn(readers)
}

// resume goes on with the attempt of a caller.
func (l line) resume(begun *local.Attempt) (drives bool) {
	a := &attempt{Attempt: begun}
	if a.Entry == nil && a.Wanted.Cause() != nil {
		if a.Unsure {
			l.suspect(a.Lease, a.Slot, a.requests(), sweeper.Soon)
		}
		l.dropSlot(a.Slot)
		return true
	}
	return l.serveAttempt(&a.Wanted, a)
}

// serveAttempt is serve for a waiter, a lease and a key.
func (l line) serveAttempt(wanted *lazyctx.Context, a *attempt) (drives bool) {
	ls := a.Lease
	rev, err := l.enter(wanted, a)
	if err == nil {
		var t *local.Ownership
		if t, err = l.grant(a, rev); t != nil {
			return a.Of.Rule != nil && !l.Private() || l.watch(a, t) // it has left the local queue, or not
		}
	}
	l.fail(wanted, ls, a.Of, a.Entry, err)
	// When the session has ended the key goes with the lease.
	if a.Entry != nil && ls.Err() == nil && l.cfg.Life.Err() == nil {
		l.Leaving()
		if refused, _ := l.leave(ls, a.Entry, false); refused {
			l.suspect(ls, a.Slot, 1, sweeper.First)
		}
	}
	l.dropSlot(a.Slot)
	return true
}

// grant gives the entry of an attempt to the first waiter. It returns nil without an error if there is
// none any more, or if it cannot use the entry. Another waiter than the one that the key was written
// for gets its own value into the key first.
func (l line) grant(a *attempt, rev int64) (*local.Ownership, error) {
	for as := a.Of.Identity; ; {
		if err := a.Lease.Err(); err != nil {
			return nil, err
		}
		t, write := l.Grant(a.Attempt, rev, as)
		if write == nil {
			return t, nil
		}
		if err := l.rewrite(a.Lease, a.Entry, write); err != nil {
			return nil, err
		}
		as = write.Identity
	}
}

// watch is what the worker does for an ownership that has begun: while the queue has a cache, the
// worker listens to its watch, which the next wait needs. Then it leaves the ownership to its holder
// and the keeper, and does not drive any more. If the ownership has ended by then, the worker finishes
// it.
func (l line) watch(a *attempt, t *local.Ownership) (drives bool) {
	listens, err := !l.Several() && l.Single.Viewed(), error(nil)
	if listens {
		left, kept := t.Ends()
		err = l.Single.Stay(a.Lease.Context(), a.Entry, left, kept, t.Contended)
	}
	if !l.Watched(t, listens, err) {
		l.finish(t)
		return true
	}
	if errors.Is(err, lockerr.ErrEvicted) {
		t.Evicted()
	} else if err != nil {
		t.Unguarded(err)
	}
	return false
}

// finish deletes the key of an ownership that is to end, or has its loss noted; or it takes the
// ownership out of its local queue. It returns true if the deletion is confirmed.
func (m *Manager) finish(t *local.Ownership) (confirmed bool) {
	d, ok := m.Finish(t)
	if !ok {
		return false
	}
	l := m.line(d.Queue)
	var refused bool
	var err error
	switch { //nolint:staticcheck // a switch on an error would compare errors
	case d.Lost == nil:
		refused, err = l.leave(d.Lease, d.Entry, d.Tried)
	default:
		err = lockerr.NotConfirmed(d.Lost)
		if ended := d.Lease.Err(); ended != nil {
			l.FailAll(d.Lease, ended)
		} else if len(d.Entry.Parts()) > 1 || d.Entry.Marked() {
			refused, _ = l.leave(d.Lease, d.Entry, true) // one key is gone; the others must not stay, or are told
		}
	}
	if refused {
		l.suspect(d.Lease, d.Slot, 1, sweeper.First)
	}
	d.Settle(refused, err)
	return !refused && err == nil
}

// leave deletes the key. The error is nil when that is confirmed. Otherwise it is what was lost, or
// why etcd refuses the deletion, which then is to be tried again. tried says that an earlier try of
// this session may have deleted the key.
func (l line) leave(ls *lease.Lease, e *queue.Entry, tried bool) (refused bool, err error) {
	err = l.cfg.Queues.Leave(ls.Context(), e, tried)
	switch {
	case err == nil:
		return false, nil
	case ls.Err() != nil:
		return false, lockerr.NotConfirmed(ls.Err())
	case errors.Is(err, lockerr.ErrEvicted):
		return false, l.whyGone(ls, e)
	default:
		l.cfg.Log.Error("etcd refuses to delete a key; trying again until its lease ends",
			zap.String("name", l.Name()), zap.String("key", e.Key), zap.Error(err))
		return true, lockerr.NotConfirmed(err)
	}
}
