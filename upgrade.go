package etcdlock

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

// Downgrade makes the write lock a read lock, with no other holder in between. Its key stays, and
// from then on is the key of a reader. When Downgrade returns without an error, the write lock is
// over ([ErrReleased]) and the read lock is held, with the same token.
//
// It blocks until etcd has confirmed that other readers may be admitted, or ctx ends. If ctx ends
// first, the read lock is returned nevertheless, and the other readers are admitted later.
//
// Errors:
//   - those of a lock that was over before
//   - [ErrReentryLimit] while another hold within this one is still held, because that hold would
//     not be exclusive any more
func (l *WriteLock) Downgrade(ctx context.Context) (*ReadLock, error) {
	return readLock(l.downgrade(ctx))("downgrade", l.Name())
}

func (h *hold) downgrade(ctx context.Context) (*hold, error) {
	if err := h.Err(); err != nil {
		return nil, err
	}
	t := h.tenure
	m := t.line.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	if len(t.entry.Parts()) > 1 {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: what a MultiMutex has locked is held alone to its end", ErrReentryLimit)
	}
	if h.turn.holds > 1 {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: release the others of this turn first", ErrReentryLimit)
	}
	if !h.end() {
		m.mu.Unlock()
		return nil, h.Err()
	}
	t.mode = wire.Shared // from here on no holder has it exclusively
	reading := h.succeeded()
	shared, detached, settled := t.tellShared(), t.becomeShared(), t.settled.Done()
	m.mu.Unlock()
	if detached != nil {
		select {
		case <-detached: // by the line's goroutine, which waits for nothing
		case <-settled: // it was just about to find out that the key is gone
		}
	}
	select {
	case <-shared:
	case <-t.life.Context().Done():
	case <-ctx.Done():
	}
	return reading, nil
}

// tellShared writes to the key that it shares, in the background; the channel is closed when
// that is done, or pointless. Called with manager.mu held.
func (t *ownership) tellShared() <-chan struct{} {
	m := t.line.manager
	q, done := m.queues.Queue(t.line.name), make(chan struct{})
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
	err := q.Rewrite(t.life.Context(), t.entry, t.restate(wire.Holder{Mode: wire.Shared}))
	if err != nil && t.life.Cause() == nil && !errors.Is(err, ErrEvicted) {
		t.line.manager.log.Error("etcd refuses to let other readers in", zap.String("name", t.line.name), zap.Error(err))
	}
}

// becomeShared lets further readers of the session in; the channel is closed when the
// line goes on, nil if it does not stand still. Called with manager.mu held.
func (t *ownership) becomeShared() (detached <-chan struct{}) {
	m := t.line.manager
	if t != t.line.tenure {
		t.asked = m.clock()
		m.readers[t.line.name] = t
		return nil
	}
	t.detach = make(chan struct{})
	t.leave()
	return t.detach
}

// succeeded makes the hold that takes the place of h in its turn. Called with session.mu
// held.
func (h *hold) succeeded() *hold {
	return &hold{tenure: h.tenure, turn: h.turn, entry: h.entry, token: h.tenure.token, values: h.values, terms: h.terms}
}

// Upgrade makes the read lock a write lock, before any waiting writer. It blocks until all other
// present readers have released, and admits no further readers meanwhile. When Upgrade returns
// without an error, the read lock is over ([ErrReleased]), and the write lock has a larger token.
// The read lock is held as before after an error, unless it was lost.
//
// Errors:
//   - the error of ctx
//   - [ErrUpgradeConflict] at once, if another reader is being upgraded, of this session or of
//     another. Each of the two would wait for the other, so the caller has to release for the other
//     to go on.
//   - [ErrDeadlock] if ctx carries another read lock of the same name by a session of this client
//   - [ErrLost], [ErrSessionClosed] and [ErrReleased]
//   - what etcd refuses
func (l *ReadLock) Upgrade(ctx context.Context) (*WriteLock, error) {
	return writeLock(l.upgrade(ctx))("upgrade", l.Name())
}

// upgrade is a reader that is becoming a writer. Its goroutine does the requests, under the
// lease; so that what a caller does not wait for is still taken back.
type upgrade struct {
	hold  *hold
	alone chan struct{} // closed when no other reader of the session is left

	outcome chan outcome            // holds one
	waiting *queue.Entry            // by which others are waited for; nil until it is marked; guarded by manager.mu
	over    bool                    // it has its outcome, or no caller waits for it; guarded by manager.mu
	cancel  context.CancelCauseFunc // ends the wait
	done    chan struct{}           // closed when the mark is taken back, or pointless
}

func (h *hold) upgrade(ctx context.Context) (*hold, error) {
	if ctx.Err() != nil {
		return nil, lockerr.OfContext(ctx)
	}
	if err := h.Err(); err != nil {
		return nil, err
	}
	if other := carriedBy(ctx).besides(h); other != nil {
		waiter := newQueueEntry(h.entry.KV(), true)
		waiter.Key, waiter.Mode = "", ModeUpgrading
		return nil, carriedBy(ctx).deadlock(waiter, other, "release it first")
	}
	for { // at most twice, but for who comes in between
		u, earlier, err := h.startUpgrade()
		switch {
		case err != nil:
			return nil, err
		case u != nil:
			return u.await(ctx)
		}
		select {
		case <-earlier:
		case <-h.Done():
			return nil, h.Err()
		case <-ctx.Done():
			return nil, lockerr.OfContext(ctx)
		}
	}
}

// startUpgrade starts an upgrade. If an earlier one has come to nothing, and its mark is
// still being taken back, or one cannot be started, the channel is closed when that is done,
// or the reason is known.
func (h *hold) startUpgrade() (u *upgrade, earlier <-chan struct{}, err error) {
	t := h.tenure
	m := t.line.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.admits() != nil:
		return nil, nil, h.lostOr(m.admits())
	case !t.open(): // the key is gone, and the cause is told as soon as it is found out
		return nil, t.life.Context().Done(), h.over()
	case t.upgrading != nil && t.upgrading.over:
		return nil, t.upgrading.done, nil
	case t.upgrading != nil:
		return nil, nil, ErrUpgradeConflict
	}
	u = &upgrade{hold: h, alone: make(chan struct{}), outcome: make(chan outcome, 1), done: make(chan struct{})}
	var wait context.Context
	wait, u.cancel = context.WithCancelCause(t.life.Context())
	if t.mode != wire.Shared { // a read lock within a write lock
		u.become()
		return u, nil, nil
	}
	t.upgrading = u
	u.left(t.turns)
	m.tasks.Go(func() {
		defer close(u.done)
		u.run(wait)
	})
	return u, nil, nil
}

// await waits for the outcome.
func (u *upgrade) await(ctx context.Context) (*hold, error) {
	h := u.hold
	defer u.cancel(nil)
	select {
	case o := <-u.outcome:
		return o.hold, o.err
	case <-h.Done():
	case <-ctx.Done():
	}
	m := h.tenure.line.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	u.over = true
	select {
	case o := <-u.outcome: // it came in the same instant
		return o.hold, o.err
	default:
		var locked *LockedError
		if u.waiting != nil {
			locked = lockedBy(u.waiting.Obstacle())
		}
		return nil, h.lostOr(waitError(ctx, locked))
	}
}

// left takes note of how many readers of the session are left. Called with manager.mu held.
func (u *upgrade) left(readers int) {
	if u != nil && readers == 1 {
		close(u.alone) // once, because no reader is admitted meanwhile
	}
}

// run marks the key, waits until all others have left, and makes the reader a writer; or
// takes the mark back.
func (u *upgrade) run(wait context.Context) {
	t := u.hold.tenure
	m := t.line.manager
	q := m.queues.Queue(t.line.name)
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
	m.wakeDrain()
}

// wait blocks until no other reader is left, here and elsewhere.
func (u *upgrade) wait(ctx context.Context, q *queue.Queue) (rev int64, err error) {
	t := u.hold.tenure
	if t.shared != nil {
		<-t.shared // lest the mark be overwritten; this ends with the lease at the latest
	}
	if err := t.line.manager.clearName(ctx, t.lease, t.line.name); err != nil {
		return 0, err
	}
	marked, err := q.Upgrade(t.life.Context(), t.entry, func(bound int64) string {
		return t.restate(wire.Holder{Mode: wire.Upgrading, Bound: bound})
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-u.alone:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	m := t.line.manager
	m.mu.Lock()
	u.waiting = marked
	m.mu.Unlock()
	return q.Await(ctx, marked)
}

// granted makes the reader a writer. It returns false if no caller wants the upgrade any more.
func (u *upgrade) granted(rev int64) bool {
	h := u.hold
	t := h.tenure
	m := t.line.manager
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case u.over:
		return false
	case !t.open():
		return false // its watch tells
	}
	was := t.token
	t.token = rev
	if !u.become() {
		t.token = was
		return false
	}
	t.mode, t.upgrading = wire.Exclusive, nil
	if m.readers[t.line.name] == t {
		delete(m.readers, t.line.name)
	}
	return true
}

// become makes the caller's hold one for writing; false if it is over. Called with
// manager.mu held.
func (u *upgrade) become() bool {
	if !u.hold.end() {
		u.fail(u.hold.over())
		return false
	}
	u.over = true
	u.outcome <- outcome{hold: u.hold.succeeded()}
	return true
}

// fail tells the caller why it came to nothing, and ends the wait. Called with session.mu
// held.
func (u *upgrade) fail(err error) {
	if u != nil && !u.over {
		u.over = true
		u.outcome <- outcome{err: err}
		u.cancel(err)
	}
}

// unmark ends the upgrade that may be under way, for a cause, and tells whether its mark is
// still to be taken back. Called with manager.mu held.
func (t *ownership) unmark(cause error) bool {
	if t == nil || t.upgrading == nil {
		return false
	}
	t.upgrading.fail(cause)
	return true
}

// refuse tells the caller why it came to nothing.
func (u *upgrade) refuse(err error) {
	h := u.hold
	t := h.tenure
	m := t.line.manager
	switch {
	case errors.Is(err, admission.ErrUpgrading):
		err = ErrUpgradeConflict
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		t.lease.End(lockerr.Lost(ErrRevoked))
	case errors.Is(err, ErrEvicted):
		m.mu.Lock()
		found := t.ended // by the ownership's watch, which will say why; or it was released
		t.close()
		m.mu.Unlock()
		if !found {
			t.lose(whyGone(t.lease))
		} else if h.over() == nil {
			<-t.life.Context().Done()
		}
		if errors.Is(err, queue.ErrOverwritten) {
			_, _ = t.line.leave(t.lease, t.queue, t.entry, true) // it is still there, and in others' way
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u.fail(h.lostOr(err))
}

// lostOr is why the hold is over, or another error while it is not.
func (h *hold) lostOr(err error) error {
	if over := h.over(); over != nil {
		return over
	}
	return err
}
