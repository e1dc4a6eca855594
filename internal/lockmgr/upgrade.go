package lockmgr

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Downgrade makes an exclusive hold a shared one, with no other holder in between, and returns the
// shared hold. It blocks until etcd has confirmed that other readers may be admitted, or ctx ends.
func (h *Hold) Downgrade(ctx context.Context) (*Hold, error) {
	if err := h.Err(); err != nil {
		return nil, err
	}
	t := h.owned
	m := t.local.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	if len(t.entry.Parts()) > 1 {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: a lock of a MultiMutex cannot be downgraded: unlock it", lockerr.ErrReentryLimit)
	}
	if h.holder.holds > 1 {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: release the other holds of this turn first", lockerr.ErrReentryLimit)
	}
	if !h.end() {
		m.mu.Unlock()
		return nil, h.Err()
	}
	t.mode = wire.Shared // from here on no holder has it exclusively
	reading := h.succeeded(PathLocal)
	shared, detached := t.tellShared(), t.becomeShared()
	m.mu.Unlock()
	if detached != nil {
		<-detached // by the worker, which waits for nothing
	}
	select {
	case <-shared:
	case <-t.life.Context().Done():
	case <-ctx.Done():
	}
	return reading, nil
}

// tellShared writes to the key that it is shared, in the background. The channel is closed when
// that is done, or pointless. Called with Manager.mu held.
func (t *ownership) tellShared() <-chan struct{} {
	m := t.local.manager
	q, done := m.cfg.Queues.Queue(t.local.name), make(chan struct{})
	t.shared = done
	if m.admission == closed {
		close(done)
		return done
	}
	m.tasks.Go(func() {
		defer close(done)
		t.rewriteShared(q)
	})
	return done
}

func (t *ownership) rewriteShared(q *queue.Queue) {
	err := q.Rewrite(t.life.Context(), t.entry, t.by.restate(wire.Holder{Mode: wire.Shared}))
	if err != nil && t.life.Cause() == nil && !errors.Is(err, lockerr.ErrEvicted) {
		t.local.manager.cfg.Log.Error("etcd refuses a downgrade; other sessions cannot read until the lock is released", zap.String("name", t.local.name), zap.Error(err))
	}
}

// becomeShared admits further readers of the session. The channel is closed when the ownership has
// left its local queue. It is nil if it had left before. Called with Manager.mu held.
func (t *ownership) becomeShared() (detached <-chan struct{}) {
	m := t.local.manager
	if t != t.local.owned {
		t.asked = m.cfg.Clock()
		m.beside.read(t)
		return nil
	}
	if t.state == held { // else it is lost, and the worker is finding out why
		t.become(converting)
	}
	t.detach = make(chan struct{})
	t.leave()
	return t.detach
}

// succeeded makes the hold that takes the place of h. Called with Manager.mu held.
func (h *Hold) succeeded(by Path) *Hold {
	return &Hold{owned: h.owned, holder: h.holder, entry: h.entry, token: h.owned.token, values: h.values, terms: h.terms, path: by}
}

// upgrade is a reader that is becoming a writer. Its goroutine makes the requests, under the lease,
// so that a mark which the caller does not wait for is still taken back.
type upgrade struct {
	hold  *Hold
	alone chan struct{} // closed when no other reader of the session is left

	outcome chan outcome            // holds one
	waiting *queue.Entry            // the marked entry; nil before; guarded by Manager.mu
	over    bool                    // true: it has its outcome, or no caller waits for it; guarded by Manager.mu
	cancel  context.CancelCauseFunc // ends the wait
	done    chan struct{}           // closed when the mark is taken back, or pointless
}

// Upgrade makes a shared hold an exclusive one, and returns the exclusive hold. It blocks until all
// other readers have released. The shared hold goes on after an error, unless it was lost.
func (h *Hold) Upgrade(ctx context.Context) (*Hold, error) {
	if ctx.Err() != nil {
		return nil, lockerr.OfContext(ctx)
	}
	if err := h.Err(); err != nil {
		return nil, err
	}
	if other := CarriedBy(ctx).besides(h); other != nil {
		carried := CarriedBy(ctx).deadlock(other, "release it first")
		carried.Upgrades = h.entry.KV()
		return nil, carried
	}
	for { // at most twice, unless another upgrade comes in between
		u, earlier, err := h.startUpgrade()
		switch {
		case err != nil:
			return nil, err
		case u != nil:
			return u.await(ctx)
		}
		select {
		case <-earlier:
		case <-h.Context().Done():
			return nil, h.Err()
		case <-ctx.Done():
			return nil, lockerr.OfContext(ctx)
		}
	}
}

// startUpgrade starts an upgrade. If it cannot be started yet, because the mark of an earlier one
// is still being taken back or because the cause of a loss is not known, the channel is closed when
// that is over.
func (h *Hold) startUpgrade() (u *upgrade, earlier <-chan struct{}, err error) {
	t := h.owned
	m := t.local.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.admits() != nil:
		return nil, nil, h.endedOr(m.admits())
	case !t.open(): // the key is gone, and the cause is known soon
		return nil, t.life.Context().Done(), h.Ended()
	case t.upgrading != nil && t.upgrading.over:
		return nil, t.upgrading.done, nil
	case t.upgrading != nil:
		return nil, nil, lockerr.ErrUpgradeConflict
	}
	u = &upgrade{hold: h, alone: make(chan struct{}), outcome: make(chan outcome, 1), done: make(chan struct{})}
	var wait context.Context
	wait, u.cancel = context.WithCancelCause(t.life.Context())
	if t.mode != wire.Shared { // a read lock within a write lock
		u.become(PathLocal)
		return u, nil, nil
	}
	t.become(converting)
	t.upgrading = u
	u.left(t.holders)
	m.tasks.Go(func() {
		defer close(u.done)
		u.run(wait)
	})
	return u, nil, nil
}

// await waits for the outcome.
func (u *upgrade) await(ctx context.Context) (*Hold, error) {
	h := u.hold
	defer u.cancel(nil)
	select {
	case o := <-u.outcome:
		return o.hold, o.err
	case <-h.Context().Done():
	case <-ctx.Done():
	}
	m := h.owned.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	u.over = true
	select {
	case o := <-u.outcome: // it came in the same instant
		return o.hold, o.err
	default:
		var locked *LockedError
		if u.waiting != nil {
			locked = &LockedError{By: u.waiting.Obstacle()}
		}
		return nil, h.endedOr(waitError(ctx, locked))
	}
}

// left notes how many readers of the session are left. Called with Manager.mu held.
func (u *upgrade) left(readers int) {
	if u != nil && readers == 1 {
		close(u.alone) // once, because no reader is admitted meanwhile
	}
}

// run marks the key, waits until all others have left, and makes the reader a writer; or
// takes the mark back.
func (u *upgrade) run(wait context.Context) {
	t := u.hold.owned
	m := t.local.manager
	q := m.cfg.Queues.Queue(t.local.name)
	defer q.Close()
	rev, err := u.wait(wait, q)
	if err == nil && u.granted(rev) {
		return
	}
	if err != nil {
		u.refuse(err)
	}
	t.rewriteShared(q)
	m.mu.Lock()
	defer m.mu.Unlock()
	t.upgrading = nil
	if t.state == converting {
		t.become(held)
	}
	m.wakeDrain()
}

// wait blocks until no other reader is left, here and elsewhere.
func (u *upgrade) wait(ctx context.Context, q *queue.Queue) (rev int64, err error) {
	t := u.hold.owned
	if t.shared != nil {
		<-t.shared // the mark would be overwritten; this ends with the lease at the latest
	}
	if err := t.local.manager.ClearName(ctx, t.lease, t.local.name); err != nil {
		return 0, err
	}
	marked, err := q.Upgrade(t.life.Context(), t.entry, func(bound int64) string {
		return t.by.restate(wire.Holder{Mode: wire.Upgrading, Bound: bound})
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-u.alone:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	m := t.local.manager
	m.mu.Lock()
	u.waiting = marked
	m.mu.Unlock()
	return q.Await(ctx, marked)
}

// granted makes the reader a writer. It returns false if no caller wants the upgrade any more.
func (u *upgrade) granted(rev int64) bool {
	h := u.hold
	t := h.owned
	m := t.local.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case u.over:
		return false
	case !t.open():
		return false // its watch reports the cause
	}
	was := t.token
	t.token = rev
	if !u.become(PathQueued) {
		t.token = was
		return false
	}
	t.become(held)
	t.mode, t.upgrading = wire.Exclusive, nil
	m.beside.readNoMore(t)
	return true
}

// become makes the caller's hold one for writing; false if it is over. Called with
// Manager.mu held.
func (u *upgrade) become(by Path) bool {
	if !u.hold.end() {
		u.fail(u.hold.Ended())
		return false
	}
	u.over = true
	u.outcome <- outcome{hold: u.hold.succeeded(by)}
	return true
}

// fail gives the caller the error, and ends the wait. Called with Manager.mu held.
func (u *upgrade) fail(err error) {
	if u != nil && !u.over {
		u.over = true
		u.outcome <- outcome{err: err}
		u.cancel(err)
	}
}

// unmark ends an upgrade that is under way, for a cause. It returns false if there is none
// with a mark to take back. Called with Manager.mu held.
func (t *ownership) unmark(cause error) bool {
	if t == nil || t.upgrading == nil {
		return false
	}
	t.upgrading.fail(cause)
	return true
}

// refuse gives the caller the reason of a failure.
func (u *upgrade) refuse(err error) {
	h := u.hold
	t := h.owned
	m := t.local.manager
	switch {
	case errors.Is(err, admission.ErrUpgrading):
		err = lockerr.ErrUpgradeConflict
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		t.lease.End(lockerr.Lost(lockerr.ErrRevoked))
	case errors.Is(err, lockerr.ErrEvicted):
		m.mu.Lock()
		first := t.found() // else its watch has found it, and reports why; or it was released
		m.mu.Unlock()
		if first {
			t.lose(m.whyGone(t.lease, t.entry))
		} else if h.Ended() == nil {
			<-t.life.Context().Done()
		}
		if errors.Is(err, queue.ErrOverwritten) {
			_, _ = t.local.leave(t.lease, t.queue, t.entry, true) // it is still there, and in others' way
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u.fail(h.endedOr(err))
}
