package lockmgr

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// release decides what follows after h was given back. It returns false if another caller of this
// session has the ownership, or the key is kept. Otherwise the ownership has ended, and the key is to
// be deleted. Called with Manager.mu held.
func (t *ownership) release(h *Hold) (ended bool) {
	m := t.local.manager
	m.counts.release()
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
			t.grantTo(front, PathLocal)
			return false
		case front == nil && t.mayKeep(h):
			t.keep(h.terms.Retention)
			return false
		}
	}
	t.close()
	return true
}

// closeFor ends the ownership for other callers of the session, before h is handed over to a
// successor. It returns false, and changes nothing, while the holder has another hold.
func (t *ownership) closeFor(h *Hold) bool {
	t.local.manager.mu.Lock()
	defer t.local.manager.mu.Unlock()
	switch h.holder.holds {
	case 0: // it was given back before, and another holder may have the ownership by now
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
	if !deleted {
		t.leave()
		return t.settled.Done(), handed
	}
	if t.state < gone {
		alone := t == t.local.owned
		t.left.Set()
		t.settleAs(gone, nil)
		if alone {
			t.local.vacate()
			t.local.attend()
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

// leave has the worker, or a goroutine of an ownership beside its local queue, finish the ownership.
// Called with Manager.mu held.
func (t *ownership) leave() {
	l := t.local
	if t.state >= gone || t.state == lost && t.life.Cause() == nil {
		return // in the latter case lose or LeaseLost follows, with the cause
	}
	t.left.Set()
	switch {
	case t == l.owned:
		l.attend()
	case t.beside && !t.attended:
		t.attended = true
		l.manager.tasks.Go(func() { l.finish(t) })
	}
}

// deleteOwned deletes the key of an ownership that has ended. lost is the cause of a loss, and tried
// says that the last holder has tried to delete the key.
func (l *localQueue) deleteOwned(t *ownership, lost error, tried bool) {
	var refused bool
	var err error
	switch { //nolint:staticcheck // a switch on an error would compare errors
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
		l.suspect(t.lease, t.slot, 1, sweeper.First)
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
	if t.detach != nil { // it was lost before the worker could take it out of its local queue
		close(t.detach)
		t.detach = nil
	}
	switch {
	case t.beside:
		t.forgetBeside()
	case !l.private():
		l.manager.dropSlot(l.name, t.slot)
	}
	l.disown(t)
}
