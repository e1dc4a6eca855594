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
	permits  int            // of wire.Counted
	holders  int            // none while the key is kept
	state    ownershipState // changed by become
	stranger bool           // another session waits

	retained  lazyctx.Latch // set when the key is kept for the first time
	idle      time.Time     // since when it is, and
	retention time.Duration // for how long
	timer     *time.Timer   // ends the keeping; nil until it is first needed
	running   bool          // the timer

	tried bool // the last holder got no answer when it deleted the key

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
		l.become(owned)
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

// release decides what follows after h was given back. It returns false if another caller of this
// session has the ownership, or the key is kept. Otherwise the ownership has ended, and the key is to
// be deleted. Called with Manager.mu held.
func (t *ownership) release(h *Hold) (ended bool) {
	m := t.local.manager
	for r := range h.holder.infos {
		r.outdated()
	}
	if h.holder.holds--; h.holder.holds > 0 {
		return false
	}
	t.holders--
	switch {
	case t.ended():
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

// leaveAtOnce deletes the key in the goroutine of the last holder, by one request. It returns nil
// if the deletion is confirmed, which spares the way through the worker. Otherwise the worker does
// the rest, and knows that the key may be gone already; the channel is closed when it is through.
// handed is why the successor, if there is one, is not the next holder.
func (t *ownership) leaveAtOnce(ctx context.Context, successor *mvccpb.KeyValue) (settled <-chan struct{}, handed error) {
	m := t.local.manager
	if ctx.Err() != nil || t.lease.Err() != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		t.leave()
		if successor != nil {
			handed = ErrNotHanded
		}
		return t.settled.Done(), handed
	}
	deleted, handed, err := t.leaveTo(ctx, successor)
	m.mu.Lock()
	defer m.mu.Unlock()
	if deleted && t.local.leftAlone(t) {
		return nil, handed
	}
	t.tried = err != nil
	defer t.leave()
	if !deleted {
		return t.settled.Done(), handed
	}
	if t.state < gone {
		alone := t == t.local.owned
		t.settleAs(gone, nil)
		if alone {
			t.local.vacate()
		}
	}
	return nil, handed
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
	t.become(kept)
	t.idle, t.retention, t.running = time.Now(), retention, true
	switch {
	case t.timer == nil:
		t.retained.Set()
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
	case t.state != kept:
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
	if !t.open() || t.state != kept {
		return nil, false
	}
	if t.identity != w.Identity {
		t.end()
		return nil, false
	}
	t.become(held)
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
	if t != nil && t.state == kept {
		t.end()
	}
}

// lose ends the ownership, and whatever is held under it, for a cause.
func (t *ownership) lose(cause error) {
	m := t.local.manager
	first := t.lostAt.CompareAndSwap(0, max(int64(m.cfg.Clock()), 1))
	t.life.Cancel(cause)
	m.mu.Lock()
	held := t.holders > 0
	t.local.stir()
	m.mu.Unlock()
	if first && held && t.lease.Err() == nil {
		t.logEviction(cause)
	}
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

// leave has the worker, or the goroutine of an ownership beside its local queue, look after the
// ownership. Called with Manager.mu held.
func (t *ownership) leave() {
	t.stay.Cancel(errGiven)
	t.local.stir()
}

// stays blocks until an ownership is to end, or its key is gone; see queue.Stay.
func (l *localQueue) stays(t *ownership) error {
	left := queue.Settle
	l.manager.mu.Lock()
	kept := t.retained.Done()
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

// watch watches over an ownership until it ends, and deletes the key; or until it leaves its local
// queue.
func (l *localQueue) watch(t *ownership) {
	m := l.manager
	err := l.stays(t)
	m.mu.Lock()
	switch evicted := errors.Is(err, lockerr.ErrEvicted); {
	case t.detached():
		m.mu.Unlock()
		return
	case evicted && t.ended() && t.holders == 0: // deleted by the last holder, most likely; leaving tells
		m.mu.Unlock()
		<-t.stay.Context().Done()
		if errors.Is(t.life.Cause(), lockerr.ErrReleased) {
			return // the last holder has settled it
		}
		m.mu.Lock()
	case evicted:
		// Another session may have it already. The present holder goes on while the cause is found out,
		// but no other caller gets it any more.
		t.found()
		m.mu.Unlock()
		t.lose(whyGone(t.lease))
		m.mu.Lock()
	case t.stay.Cause() == nil:
		// The session may not read its own key any more, so the lease alone has to do.
		m.mu.Unlock()
		m.cfg.Log.Error("cannot watch the key of a hold", zap.String("name", l.name), zap.Error(err))
		t.yield() // nor is another session that lines up heard of
		<-t.stay.Context().Done()
		m.mu.Lock()
		if t.detached() {
			m.mu.Unlock()
			return
		}
	}
	if t.state >= gone { // the last holder has settled it
		m.mu.Unlock()
		return
	}
	t.end() // before all else, or a loss would meet a new holder
	lost, tried := t.life.Cause(), t.tried
	if t == l.owned {
		m.noteLoss(t)
		l.owned = nil
		if lost == nil || t.lease.Context().Err() == nil && len(t.entry.Parts()) > 1 {
			l.become(leaving)
		}
	}
	m.mu.Unlock()
	l.deleteOwned(t, lost, tried)
}

// deleteOwned deletes the key of an ownership that has ended. lost is the cause of a loss, and tried
// says that the last holder has tried to delete the key.
func (l *localQueue) deleteOwned(t *ownership, lost error, tried bool) {
	var refused bool
	var err error
	switch {
	case lost == nil:
		refused, err = l.leave(t.lease, t.queue, t.entry, tried)
	default:
		err = notConfirmed(lost)
		if ended := t.lease.Err(); ended != nil {
			l.failAll(t.lease, ended)
		} else if len(t.entry.Parts()) > 1 {
			refused, _ = l.leave(t.lease, t.queue, t.entry, true) // one key is gone; the others must not stay
		}
	}
	to := gone
	if refused {
		to = uncertain
		l.suspect(t.lease, t.slot, 1, firstSweep)
	}
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	t.settleAs(to, err)
}

// settleAs notes what has become of the key. Called with Manager.mu held.
func (t *ownership) settleAs(to ownershipState, err error) {
	l := t.local
	if t.state != to {
		t.become(to)
	}
	t.leftErr = err
	t.life.Cancel(lockerr.ErrReleased)
	t.settled.Set()
	switch _, beside := l.manager.beside[t]; {
	case beside:
		t.forgetBeside()
	case !l.private():
		l.manager.dropSlot(l.name, t.slot)
	}
	if t == l.owned {
		l.owned = nil
	}
}
