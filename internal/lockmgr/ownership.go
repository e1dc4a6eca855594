package lockmgr

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// ownership is a session's time with the lock in etcd: one entry, from its grant to the deletion of
// its key. In between, goroutines of the session hold one after the other, handed over in memory.
// With retention the key may be kept while there is no holder.
//
// Readers hold at the same time. Their ownership has left its local queue (shared.go).
type ownership struct {
	local     *localQueue
	lease     *lease.Lease
	entry     *queue.Entry
	queue     place     // that of the local queue, until the ownership leaves it
	slot      wire.Slot // of the key
	token     int64
	identity  string  // that of the request which the key's value was made for
	by        *bearer // makes the value of the key for another mode
	candidate bool    // of an election

	life lazyctx.Context // ends with the lease; all holds of the ownership end with it

	// Guarded by Manager.mu.
	began     time.Duration // by the session's clock
	since     time.Duration // of the grant, by the session's clock
	mode      wire.Mode
	permits   int            // of wire.Counted
	holders   int            // 0 while the key is kept
	state     ownershipState // changed by become
	contended bool           // true: another session waits
	noted     bool           // true: its loss is noted
	beside    bool           // true: it has left its local queue
	attended  bool           // true, beside the local queue: a goroutine finishes it
	running   bool           // true: timer runs
	tried     bool           // true: the last holder got no answer when it deleted the key
	member    int            // in beside.all

	young sharedtimer.Timer // fires when it has lasted for a while
	guard *queue.Guard      // watches the key; nil before
	left  lazyctx.Latch     // set when a goroutine is to finish the ownership

	retained  lazyctx.Latch // set when the key is kept for the first time
	idle      time.Duration // since when it is kept
	retention time.Duration // how long it is kept
	timer     *time.Timer   // ends the retention; nil until it is first needed

	asked     time.Duration // of readers: when no other session was known to wait, by the session's clock
	upgrading *upgrade      // of readers: that of the one that is becoming a writer
	shared    chan struct{} // of a writer that has become a reader: closed when that is written, or pointless
	detach    chan struct{} // not nil: it is to leave its local queue; closed when it has

	lostAt atomic.Int64 // when it was lost alone, by the session's clock; 0 if it was not

	settled lazyctx.Latch // set when it is known what became of the key
	leftErr error         // why the deletion is not confirmed; set before settled
}

// begin starts an ownership on the granted entry of an attempt. Called with Manager.mu held.
func (l *localQueue) begin(a *attempt, rev int64, w *waiter) *ownership {
	now := l.manager.cfg.Clock()
	t := &ownership{
		local: l, lease: a.lease, entry: a.entry, queue: l.queue, slot: a.slot, token: rev, identity: w.Identity, candidate: w.Candidate, by: w.bearer(), mode: w.Mode, permits: w.Permits,
		began: now, since: now,
	}
	t.life.Within(a.lease.Context())
	if w.Rule != nil && !l.private() {
		t.goBeside()
	} else {
		l.own(t)
	}
	return t
}

// become changes the state. It is the one place where the state changes. Called with Manager.mu held.
func (t *ownership) become(to ownershipState) {
	if err := ownershipStates.Check(t.state, to); err != nil {
		t.local.manager.cfg.Fail(err)
		return
	}
	t.state = to
	if to == releasing || to == lost {
		t.local.manager.ending()
	}
}

// ended tells whether no caller gets the ownership any more. Called with Manager.mu held.
func (t *ownership) ended() bool { return t.state >= releasing }

// open tells whether the ownership can have another holder: it goes on, and the lease has not been
// ended. The lease was looked at before, without the mutex. Called with Manager.mu held.
func (t *ownership) open() bool {
	return t != nil && !t.ended() && t.life.Cause() == nil
}

// close ends the ownership for callers. Called with Manager.mu held.
func (t *ownership) close() {
	switch {
	case t.ended():
	case t.life.Cause() != nil:
		t.become(lost)
	default:
		t.become(releasing)
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.young.Stop()
	t.guard.Stop()
}

// end is close, and has the key deleted. Called with Manager.mu held.
func (t *ownership) end() {
	t.close()
	t.leave()
}

// found ends the ownership for callers, because its key was found deleted. It returns false if the
// ownership had ended before. Called with Manager.mu held.
func (t *ownership) found() bool {
	if t.ended() {
		return false
	}
	t.become(lost)
	t.close()
	return true
}

// holder is a caller that was granted, with all holds that calls under the context of its hold got.
// The last release of these ends the holder.
type holder struct {
	// Guarded by Manager.mu.
	holds int
	infos map[*holdInfo]struct{} // of waiting entries that say in etcd that their caller is this holder
}

// newHolder makes w a holder. Called with Manager.mu held.
func (t *ownership) newHolder(w *waiter, by Path) *Hold {
	t.holders++
	return (&holder{}).hold(w.values, t, t.entry, w.Terms, by)
}

// hold makes another hold of the holder. Called with Manager.mu held.
func (u *holder) hold(values context.Context, t *ownership, e *queue.Entry, terms Terms, by Path) *Hold {
	u.holds++
	t.local.manager.counts.granted(by)
	return &Hold{owned: t, holder: u, entry: e, token: t.token, values: values, terms: terms, path: by}
}

// grantTo makes a waiter of the local queue a holder. Called with Manager.mu held.
func (t *ownership) grantTo(w *waiter, by Path) {
	t.local.tell(w, outcome{hold: t.newHolder(w, by)})
}

// lose ends the ownership, and whatever is held under it, for a cause.
func (t *ownership) lose(cause error) {
	m := t.local.manager
	first := t.lostAt.CompareAndSwap(0, max(int64(m.cfg.Clock()), 1))
	t.life.Cancel(cause)
	m.mu.Lock()
	held := t.holders > 0
	if first && t.lease.Context().Err() == nil {
		t.noted = true // the end of the lease does not count it again
		m.counts.losing(t.holders)
	}
	t.leave()
	m.mu.Unlock()
	if first && held && t.lease.Err() == nil {
		t.logEviction(cause)
	}
}

// remaining is the time until the ownership ends unless its lease is renewed before. After its end
// it is negative: how long ago that was.
func (t *ownership) remaining() time.Duration {
	left := t.lease.Remaining()
	if at := t.lostAt.Load(); at != 0 {
		left = min(left, time.Duration(at)-t.local.manager.cfg.Clock())
	}
	return left
}
