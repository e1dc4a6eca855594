package etcdlock

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Downgrade makes the write lock a read lock, with nobody in between: its key stays, and
// says from then on that it shares. The write lock is over ([ErrReleased]) and the read
// lock is held when Downgrade returns without an error, with the same token.
//
// It blocks until etcd has confirmed that other readers may come in, or ctx ends; then
// the read lock is returned all the same, and the others come in later. Errors: those of a
// lock that was over before; and [ErrReentryLimit] while another hold within this one is
// still held, as that would not be exclusive any more.
func (l *WriteLock) Downgrade(ctx context.Context) (*ReadLock, error) {
	return readLock(l.downgrade(ctx))("downgrade", l.tenure.line.name)
}

func (h *Hold) downgrade(ctx context.Context) (*Hold, error) {
	t := h.tenure
	s := t.line.session
	s.mu.Lock()
	if len(t.entry.Parts()) > 1 {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: what LockAll has locked is held alone to its end", ErrReentryLimit)
	}
	if h.turn.holds > 1 {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: release the others of this turn first", ErrReentryLimit)
	}
	if !h.giveBack() {
		s.mu.Unlock()
		return nil, h.Err()
	}
	t.mode = wire.Shared // from here on nobody has it alone
	reading := h.succeeded()
	detached := t.becomeShared()
	s.mu.Unlock()
	if detached != nil {
		<-detached // by the line's goroutine, which waits for nothing
	}

	confirmed := make(chan struct{})
	value := t.restate(wire.Holder{Mode: wire.Shared})
	s.spawn(func() {
		defer close(confirmed)
		if err := t.queue.Rewrite(t.ctx, t.entry, value); err != nil && t.ctx.Err() == nil && !errors.Is(err, queue.ErrGone) {
			s.log.Error("etcd refuses to let other readers in", zap.String("name", t.line.name), zap.Error(err))
		}
	})
	select {
	case <-confirmed:
	case <-t.ctx.Done():
	case <-ctx.Done():
	}
	return reading, nil
}

// becomeShared lets further readers of the session in; the channel is closed when the
// line goes on, nil if it does not stand still. Called with session.mu held.
func (t *tenure) becomeShared() (detached <-chan struct{}) {
	s := t.line.session
	if t != t.line.tenure {
		t.asked = s.cfg.clock()
		s.readers[t.line.name] = t
		return nil
	}
	t.detach = make(chan struct{})
	t.leave()
	return t.detach
}

// succeeded makes the hold that takes the place of h in its turn. Called with session.mu
// held.
func (h *Hold) succeeded() *Hold {
	return &Hold{tenure: h.tenure, turn: h.turn, entry: h.entry, token: h.tenure.token, values: h.values, terms: h.terms}
}

// Upgrade makes the read lock a write lock, before any writer who waits: it blocks until
// all other readers that are in have released, and lets no further ones in meanwhile. The
// read lock is over ([ErrReleased]) when Upgrade returns without an error, and the write
// lock has a larger token. After an error the read lock is held as before, unless it was
// lost.
//
// At most one reader at a time is upgraded: [ErrUpgradeConflict] at once, if another one is,
// of this session or of another, as each of the two would wait for the other. The one who is
// told has to release, so that the other can go on. Other errors: the context's;
// [ErrLost], [ErrSessionClosed] and [ErrReleased]; what etcd refuses.
func (l *ReadLock) Upgrade(ctx context.Context) (*WriteLock, error) {
	return writeLock(l.upgrade(ctx))("upgrade", l.tenure.line.name)
}

// upgrade is a reader who is becoming a writer. Its goroutine does the requests, under the
// lease; so that what a caller does not wait for is still taken back.
type upgrade struct {
	hold  *Hold
	alone chan struct{} // closed when no other reader of the session is left

	outcome chan outcome // holds one
	gaveUp  bool         // the caller; guarded by session.mu
}

func (h *Hold) upgrade(ctx context.Context) (*Hold, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	if err := h.Err(); err != nil {
		return nil, err
	}
	t := h.tenure
	s := t.line.session
	u := &upgrade{hold: h, alone: make(chan struct{}), outcome: make(chan outcome, 1)}
	s.mu.Lock()
	switch {
	case t.upgrading != nil:
		s.mu.Unlock()
		return nil, ErrUpgradeConflict
	case t.mode != wire.Shared: // a read lock within a write lock
		defer s.mu.Unlock()
		if !h.giveBack() {
			return nil, h.Err()
		}
		return h.succeeded(), nil
	case !t.open() || s.state.state == Closed:
		s.mu.Unlock()
		return nil, h.Err()
	}
	t.upgrading = u
	u.left(t.turns)
	wait, cancel := context.WithCancel(t.ctx)
	s.tasks.Go(func() { u.run(wait) })
	s.mu.Unlock()
	defer cancel()
	defer context.AfterFunc(h.Context(), cancel)()

	select {
	case o := <-u.outcome:
		return o.hold, o.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	u.gaveUp = true
	s.mu.Unlock()
	select {
	case o := <-u.outcome: // it came in the same instant
		return o.hold, o.err
	default:
		return nil, contextError(ctx)
	}
}

// left takes note of how many readers of the session are left. Called with session.mu held.
func (u *upgrade) left(readers int) {
	if u != nil && readers == 1 {
		close(u.alone) // once, as nobody comes in meanwhile
	}
}

// run marks the key, waits until all others have left, and makes the reader a writer; or
// takes the mark back.
func (u *upgrade) run(wait context.Context) {
	t := u.hold.tenure
	s := t.line.session
	q := s.queue(t.line.name)
	defer q.Close()
	rev, err := u.await(wait, q)
	if err == nil && u.granted(rev) {
		return
	}
	if err != nil {
		u.outcome <- outcome{err: u.refusal(err)}
	}
	if !errors.Is(err, queue.ErrUpgrading) {
		if err := q.Rewrite(t.ctx, t.entry, t.restate(wire.Holder{Mode: wire.Shared})); err != nil && t.ctx.Err() == nil && !errors.Is(err, queue.ErrGone) {
			s.log.Error("etcd refuses to let other readers in again", zap.String("name", t.line.name), zap.Error(err))
		}
	}
	s.mu.Lock()
	t.upgrading = nil
	s.mu.Unlock()
}

// await blocks until no other reader is left, here and elsewhere.
func (u *upgrade) await(wait context.Context, q *queue.Queue) (rev int64, err error) {
	t := u.hold.tenure
	marked, err := q.Upgrade(t.ctx, t.entry, func(bound int64) string {
		return t.restate(wire.Holder{Mode: wire.Upgrading, Bound: bound})
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-u.alone:
	case <-wait.Done():
		return 0, context.Cause(wait)
	}
	return q.Await(wait, marked)
}

// granted makes the reader a writer; false if nobody wants that any more.
func (u *upgrade) granted(rev int64) bool {
	h := u.hold
	t := h.tenure
	s := t.line.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.gaveUp || !t.open() {
		if !u.gaveUp {
			u.outcome <- outcome{err: h.lostOr(ErrReleased)}
		}
		return false
	}
	if !h.giveBack() {
		u.outcome <- outcome{err: h.over()}
		return false
	}
	t.mode, t.token, t.upgrading = wire.Exclusive, rev, nil
	delete(s.readers, t.line.name)
	u.outcome <- outcome{hold: h.succeeded()}
	return true
}

// refusal is what the caller is told.
func (u *upgrade) refusal(err error) error {
	if errors.Is(err, queue.ErrUpgrading) {
		return ErrUpgradeConflict
	}
	return u.hold.lostOr(err)
}

// lostOr is why the hold is over, or another error while it is not.
func (h *Hold) lostOr(err error) error {
	if over := h.over(); over != nil {
		return over
	}
	return err
}
