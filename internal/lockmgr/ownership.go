package lockmgr

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// ownership is a session's time with the lock in etcd: one entry, from its grant to the
// deletion of its key. In between, goroutines of the session hold one after the
// other, handed over in memory; and with retention the key may be kept while none of
// them does.
//
// Of readers several hold at the same time; such an ownership has left its local queue (beside.go).
//
//	granted ──▶ held ──▶ handed over, held again ... ──▶ ended ──▶ the key is deleted
//	              └────▶ kept, nobody holds ──▶ held ──┘  ▲
//	                       └── a stranger, idle ──────────┘
type ownership struct {
	local     *localQueue
	lease     *lease.Lease
	entry     *queue.Entry
	queue     place     // that of the local queue, for as long as it has not left it
	slot      wire.Slot // of the key
	token     int64
	identity  string // that of the request which the key's value was made for
	candidate bool   // of an election

	restate func(want wire.Holder) string // what the value is to be when it wants something else

	life lazyctx.Context // a part of the lease's; all holds of the ownership end with it
	stay lazyctx.Context // ends with life, or when the local queue's goroutine is to do something about the ownership

	// Guarded by Manager.mu.
	began    time.Duration // by the session's clock
	since    time.Time     // of the grant
	mode     wire.Mode
	permits  int  // of wire.Counted
	holders  int  // none while the key is kept
	ended    bool // nobody gets it any more
	stranger bool // another session waits

	kept      lazyctx.Latch // the key is kept for the first time
	idle      time.Time     // since when it is, and
	retention time.Duration // for how long
	timer     *time.Timer   // ends the keeping; nil until it is first needed
	running   bool          // the timer

	left  bool // the last holder has deleted the key
	tried bool // and this one got no answer to that

	asked     time.Duration // of readers: when nobody else is known to have waited, by the session's clock
	upgrading *upgrade      // of readers: one of them is becoming a writer
	shared    chan struct{} // of a writer who has become a reader: closed when that is written, or pointless
	detach    chan struct{} // it is to leave its local queue; closed when it has

	lostAt atomic.Int64 // when it was lost alone, by the session's clock; 0 if it was not

	settled lazyctx.Latch // it is known what became of the key
	leftErr error         // set before that
}

// begin starts an ownership on a granted entry. Called with Manager.mu held.
func (l *localQueue) begin(ls *lease.Lease, e *queue.Entry, rev int64, w *waiter, slot wire.Slot) *ownership {
	t := &ownership{
		local: l, lease: ls, entry: e, queue: l.queue, slot: slot, token: rev, identity: w.Identity, candidate: w.Candidate, restate: w.Restate, mode: w.Mode, permits: w.Permits,
		began: l.manager.cfg.Clock(), since: time.Now(),
	}
	t.life.Within(ls.Context())
	t.stay.PartOf(&t.life)
	if w.Rule != nil && !l.private() {
		t.goBeside()
	} else {
		l.owned = t
	}
	return t
}

// holder is a caller that was granted, with all holds that calls under the context of its hold got.
// The last release of these ends the holder.
type holder struct {
	// Guarded by Manager.mu.
	holds int
	infos map[*holdInfo]struct{} // of waiting entries that say in etcd that their caller is this holder
}

// newTurn makes w a holder. Called with Manager.mu held.
func (t *ownership) newHolder(w *waiter) *Hold {
	t.holders++
	return (&holder{}).hold(w.values, t, t.entry, w.Terms)
}

// hold makes another hold of the turn. Called with Manager.mu held.
func (u *holder) hold(values context.Context, t *ownership, e *queue.Entry, terms Terms) *Hold {
	u.holds++
	return &Hold{owned: t, holder: u, entry: e, token: t.token, values: values, terms: terms}
}

// grantTo makes a waiter of the local queue a holder. Called with Manager.mu held.
func (t *ownership) grantTo(w *waiter) {
	t.local.tell(w, outcome{hold: t.newHolder(w)})
}

// open tells whether the ownership can have another holder: it goes on, and the lease has not been
// ended. Before it gives a hold the lease was looked at, without the mutex. Called with Manager.mu
// held.
func (t *ownership) open() bool {
	return t != nil && !t.ended && t.life.Cause() == nil
}

// released decides who is next, after h was given back. It is false if that is
// somebody in this process, or nobody as yet; otherwise the ownership has ended, and the
// key is to be deleted.
func (t *ownership) released(h *Hold) (ended bool) {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range h.holder.infos {
		r.outdated()
	}
	if h.holder.holds--; h.holder.holds > 0 {
		return false
	}
	t.holders--
	switch {
	case t.ended:
		return true // it was lost in this instant
	case t.holders > 0:
		t.upgrading.left(t.holders)
		return false
	case t.open() && t == t.local.owned && len(h.holder.infos) == 0:
		front := t.local.front()
		switch {
		case front != nil && front.Identity == t.identity && m.cfg.Clock()-t.began < h.terms.Slice:
			t.grantTo(front)
			return false
		case front == nil && h.terms.Retention > 0 && !t.local.private() && !t.stranger && !m.suspended && m.admission == open:
			t.keep(h.terms.Retention)
			return false
		}
	}
	t.close()
	return true
}

// closeFor lets nobody else of the session have the ownership, before h is given back to a
// successor; it is false, and changes nothing, while another hold of the same turn goes on.
func (t *ownership) closeFor(h *Hold) bool {
	t.local.manager.mu.Lock()
	defer t.local.manager.mu.Unlock()
	switch h.holder.holds {
	case 0: // it was given back before, and the ownership may be another turn's by now
	case 1:
		t.close()
	default:
		return false
	}
	return true
}

// leaveAtOnce deletes the key in the goroutine of the holder who is the last one, once,
// and tells whether that is confirmed. It spares the way through the local queue's goroutine
// and back; which does the rest in any other case, and knows then that the key may be
// gone by our own hand. handed is why the successor, if there is one, is not the next.
func (t *ownership) leaveAtOnce(ctx context.Context, successor *mvccpb.KeyValue) (confirmed bool, handed error) {
	if ctx.Err() != nil || t.lease.Err() != nil {
		t.leave()
		if successor != nil {
			handed = ErrNotHanded
		}
		return false, handed
	}
	deleted, handed, err := t.leaveTo(ctx, successor)
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if deleted && t.local.leftAlone(t) {
		return true, handed
	}
	t.left, t.tried = deleted, err != nil
	if deleted && t == t.local.owned && t.local.waiters.Len() == 0 {
		t.local.rest(true)
	}
	t.leave() // wakes the local queue's goroutine
	return deleted, handed
}

// leaveTo deletes the key, and makes the successor the next one, if there is one.
func (t *ownership) leaveTo(ctx context.Context, successor *mvccpb.KeyValue) (deleted bool, handed, err error) {
	if successor == nil {
		deleted, err = t.leaveOnce(ctx)
		return deleted, nil, err
	}
	whole, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.lease.Context(), cancel)()
	switch handed = t.local.single.HandTo(whole, t.entry, successor); {
	case errors.Is(handed, queue.ErrNoTarget):
		deleted, err = t.leaveOnce(ctx)
		return deleted, handed, err
	case errors.Is(handed, lockerr.ErrEvicted):
		return false, ErrNotHanded, nil
	default:
		return handed == nil, handed, handed
	}
}

// leaveOnce deletes the key by one request.
func (t *ownership) leaveOnce(ctx context.Context) (deleted bool, err error) {
	ctx, pooled := t.local.manager.cfg.Writer.RequestContext(t.lease.Context(), ctx)
	defer pooled.Release()
	return t.queue.LeaveOnce(ctx, t.entry)
}

// keep leaves the key where it is, for somebody of this session to come, for as long
// as retention and nobody else wants it. Called with Manager.mu held.
func (t *ownership) keep(retention time.Duration) {
	running := t.running && retention >= t.retention // it looks at idle when it fires
	t.idle, t.retention, t.running = time.Now(), retention, true
	switch {
	case t.timer == nil:
		t.kept.Set()
		t.local.attend() // from now on somebody has to listen for strangers
		t.timer = time.AfterFunc(retention, t.expire)
	case !running:
		t.timer.Reset(retention)
	}
}

// expire ends an ownership whose key was kept for long enough.
func (t *ownership) expire() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	switch left := t.retention - time.Since(t.idle); {
	case t.ended || t.holders > 0:
		t.running = false
	case left > 0:
		t.timer.Reset(left)
	default:
		t.end()
	}
}

// take gives w the kept key, without a request. False if there is none to give, or
// if it is somebody else's by its value; then it is on its way out. Called with
// Manager.mu held.
func (t *ownership) take(w *waiter) (*Hold, bool) {
	if t == nil || t.holders > 0 || !t.open() {
		return nil, false
	}
	if t.identity != w.Identity {
		t.end()
		return nil, false
	}
	t.began = t.local.manager.cfg.Clock() // nobody else wanted it so far
	return t.newHolder(w), true
}

// yield is called when another session has lined up: a kept key is given up at once,
// and one that is held is not kept afterwards.
func (t *ownership) yield() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	t.stranger = true
	t.giveUpKept()
}

// giveUpKept ends the ownership if nobody holds; one that has ended may be in the middle of
// leaveAtOnce. Called with Manager.mu held.
func (t *ownership) giveUpKept() {
	if t != nil && t.holders == 0 && !t.ended {
		t.end()
	}
}

// end lets nobody else have it, and wakes the local queue's goroutine to delete the key.
// Called with Manager.mu held.
func (t *ownership) end() {
	t.close()
	t.leave()
}

// close lets nobody else have it. Called with Manager.mu held.
func (t *ownership) close() {
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// lose ends the ownership, and whatever is held under it, for a cause.
func (t *ownership) lose(cause error) {
	first := t.lostAt.CompareAndSwap(0, max(int64(t.local.manager.cfg.Clock()), 1))
	t.life.Cancel(cause)
	if first {
		t.logEviction(cause)
	}
	t.local.stir()
}

// remaining is the time until the ownership ends unless its lease is renewed before; after its
// end it is negative, and tells how long ago that was.
func (t *ownership) remaining() time.Duration {
	left := t.lease.Remaining()
	if at := t.lostAt.Load(); at != 0 {
		left = min(left, time.Duration(at)-t.local.manager.cfg.Clock())
	}
	return left
}

// leave has the local queue's goroutine, or that of the ownership, look after it.
func (t *ownership) leave() {
	t.stay.Cancel(errGiven)
	t.local.stir()
}

// stays blocks until an ownership is to end, or its key is gone; see queue.Stay.
func (l *localQueue) stays(t *ownership) error {
	left := queue.Settle
	l.manager.mu.Lock()
	kept := t.kept.Done()
	l.manager.mu.Unlock()
	if l.single != nil && t.queue == place(l.single) && !l.single.Viewed() { // else it is beside the local queue
		if left = l.quiet(t, kept); t.stay.Cause() != nil {
			return t.stay.Cause()
		}
	}
	return t.queue.Stay(t.stay.Context(), t.entry, left, kept, t.yield)
}

// quiet is how most ownerships pass: they are over before their key needs to be watched, and
// before anything else needs to be set up for them. It returns when this one is to end, or
// is kept, or in what time from now on it is to be watched.
func (l *localQueue) quiet(t *ownership, kept <-chan struct{}) (left time.Duration) {
	if t.stay.Cause() != nil || time.Since(t.since) >= queue.Settle {
		return 0
	}
	l.manager.settle.Set(&l.settled, l)
	defer l.settled.Stop()
	for {
		select {
		case <-l.stirred:
		case <-kept:
			return max(0, queue.Settle-time.Since(t.since))
		case <-t.lease.Context().Done():
			return 0
		}
		if t.stay.Cause() != nil || time.Since(t.since) >= queue.Settle {
			return 0
		}
	}
}

// watch watches over an ownership until it ends, and deletes the key; or until it leaves its
// local queue.
func (l *localQueue) watch(t *ownership) {
	err := l.stays(t)
	if t.detached() {
		return
	}
	l.manager.mu.Lock()
	given := t.ended && t.holders == 0
	l.manager.mu.Unlock()
	if errors.Is(err, lockerr.ErrEvicted) && given {
		<-t.stay.Context().Done() // by our own hand, most likely; leaving tells
	} else if errors.Is(err, lockerr.ErrEvicted) {
		// Somebody else may have it already. The present holder goes on for as long as it
		// takes to find out why, but nobody gets it any more.
		l.manager.mu.Lock()
		t.end()
		l.manager.mu.Unlock()
		t.lose(whyGone(t.lease))
	} else if t.stay.Cause() == nil {
		// We may not look at our own key any more; then the lease alone has to do.
		l.manager.cfg.Log.Error("cannot watch the key of a hold", zap.String("name", l.name), zap.Error(err))
		t.yield() // nor would we hear of strangers
		<-t.stay.Context().Done()
		if t.detached() {
			return
		}
	}

	l.manager.mu.Lock()
	t.end() // before all else, lest a loss meet a new holder
	lost, left, tried, beside := t.life.Cause() != nil, t.left, t.tried, t != l.owned
	if !beside {
		l.manager.noteLoss(t)
		l.owned = nil
	}
	l.manager.mu.Unlock()
	refused := false
	switch {
	case left:
		t.life.Cancel(lockerr.ErrReleased)
	case lost:
		t.leftErr = notConfirmed(t.life.Cause())
		if err := t.lease.Err(); err != nil {
			l.failAll(t.lease, err)
		} else if len(t.entry.Parts()) > 1 {
			refused, _ = l.leave(t.lease, t.queue, t.entry, true) // one key is gone; the others must not stay
		}
	default:
		refused, t.leftErr = l.leave(t.lease, t.queue, t.entry, tried)
		t.life.Cancel(lockerr.ErrReleased)
	}
	l.manager.mu.Lock()
	t.settled.Set()
	l.manager.mu.Unlock()
	switch {
	case beside:
		t.settle(refused)
		return
	case refused:
		l.suspect(t.lease, t.slot, 1, firstSweep)
	}
	l.dropSlot(t.slot)
}
