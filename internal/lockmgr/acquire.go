package lockmgr

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/local"
)

// Acquire joins the local queue of a name and waits for the grant.
func (m *Manager) Acquire(ctx context.Context, name string, c local.Call) (*Hold, error) {
	w := &local.Waiter{Call: c, Hurries: hurries(ctx)}
	if w.Carried != nil {
		if granted, err := m.Nested(w, name); granted || err != nil {
			return m.outcome(ctx, w, err)
		}
	}
	q, first, granted, err := m.Join(name, w)
	if granted || err != nil {
		return m.outcome(ctx, w, err)
	}
	l := m.line(q)
	if first != nil {
		if granted, err := l.enterAlone(ctx, first); granted || err != nil {
			return m.outcome(ctx, w, err)
		}
	}
	return l.await(ctx, w)
}

// AcquireAll waits for the grant of several names at once, in a private local queue.
func (m *Manager) AcquireAll(ctx context.Context, names []string, c local.Call) (*Hold, error) {
	w := &local.Waiter{Call: c}
	if w.Carried != nil {
		if granted, err := m.Nested(w, names...); granted || err != nil {
			return m.outcome(ctx, w, err)
		}
	}
	q, err := m.JoinAll(names, w)
	if err != nil {
		return nil, err
	}
	return m.line(q).await(ctx, w)
}

// hurries tells whether a caller will not wait for as long as a request may take. When its time
// is up it can only return early if it cuts off its own request. If another goroutine makes the
// request, that goroutine stays behind to hear the answer.
func hurries(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= etcdkv.FirstBound
}

// outcome returns the hold that w was granted, or an error. It is not inlined, as the hold on the way to
// the heap would make the stacks of all waiters larger.
//
//go:noinline
func (m *Manager) outcome(ctx context.Context, w *local.Waiter, err error) (*Hold, error) {
	if err != nil {
		return nil, err
	}
	g, err := w.Outcome()
	if err != nil {
		return nil, err
	}
	h := &Hold{Hold: g.Hold(ctx, w.Terms), manager: m}
	if w.MaxHold > 0 || w.Carried != nil {
		h.Limit(w.MaxHold, w.Carried, h.overdue)
	}
	return h, nil
}

// await waits for the grant.
func (l line) await(ctx context.Context, w *local.Waiter) (*Hold, error) {
	told := l.Told(w)
	if w.Waiting != nil {
		l.report(ctx, w, told)
	}
	defer l.foresee(ctx)()
	select {
	case <-told:
		return l.outcome(ctx, w, nil)
	case <-ctx.Done():
		return nil, waitError(ctx, l.withdraw(ctx, w))
	}
}

// foresight is how long before its deadline a wait asks for the holder, if its entry has read none. A wait of
// less than twice that does not ask.
const foresight = 50 * time.Millisecond

// foresee has the holder read shortly before ctx ends by a deadline, unless the returned function is called
// before. The read ends at the deadline, and does without ctx, which is code of the client.
func (l line) foresee(ctx context.Context) (stop func()) {
	if l.Several() || !l.cfg.Queues.HasMarked() { // waits in memory are spared a timer
		return func() {}
	}
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if !ok || left < 2*foresight {
		return func() {}
	}
	timer := time.AfterFunc(left-foresight, func() {
		bounded, cancel := context.WithTimeout(l.cfg.Life, foresight)
		defer cancel()
		if e := l.Waits(); e != nil {
			l.cfg.Queues.Foresee(bounded, e)
		}
	})
	return func() { timer.Stop() }
}

// withdraw takes w out of the local queue, as its caller does not wait any more. It returns the entry
// that was ahead, nil if none is known.
func (l line) withdraw(ctx context.Context, w *local.Waiter) *local.LockedError {
	left, locked := l.GiveUp(w)
	if !left {
		// The grant came in the same instant, and the caller does not want it any more.
		if h, err := l.outcome(ctx, w, nil); err == nil {
			h.Abandon()
		}
	}
	return locked
}

// report tells the caller of w that it has to wait. If the caller's function panics, or ends the
// goroutine, w is withdrawn.
func (l line) report(ctx context.Context, w *local.Waiter, told <-chan struct{}) {
	returned := false
	defer func() {
		if !returned {
			_ = l.withdraw(ctx, w)
		}
	}()
	w.Waiting.Report(told, ctx.Done())
	returned = true
}
