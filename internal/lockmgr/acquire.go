package lockmgr

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Acquire joins the local queue of a name and waits for the grant.
func (m *Manager) Acquire(ctx context.Context, name string, r Request) (*Hold, error) {
	w := &waiter{Request: r, values: ctx}
	if h, err := w.nested(m, name); h != nil || err != nil {
		return h, err
	}
	l, first, h, err := m.join(name, w)
	if h != nil || err != nil {
		return h, err
	}
	if first != nil {
		if h := l.enterAlone(ctx, first); h != nil {
			return h, nil
		}
	}
	return l.await(ctx, w)
}

// AcquireAll waits for the grant of several names at once, in a private local queue.
func (m *Manager) AcquireAll(ctx context.Context, names []string, r Request) (*Hold, error) {
	w := &waiter{Request: r, values: ctx}
	if h, err := w.nested(m, names...); h != nil || err != nil {
		return h, err
	}
	l, err := m.joinAll(names, w)
	if err != nil {
		return nil, err
	}
	return l.await(ctx, w)
}

// await waits for the grant.
func (l *localQueue) await(ctx context.Context, w *waiter) (*Hold, error) {
	l.manager.mu.Lock()
	told := w.told.Done()
	l.manager.mu.Unlock()
	if w.Waiting != nil {
		l.report(ctx, w, told)
	}
	select {
	case <-told:
		return w.given.hold, w.given.err
	case <-ctx.Done():
		return nil, waitError(ctx, l.withdraw(w))
	}
}

// withdraw takes w out of the local queue, as its caller does not wait any more. It returns the entry
// that was ahead, nil if none is known.
func (l *localQueue) withdraw(w *waiter) *LockedError {
	given, locked := l.giveUp(w)
	if !given && w.given.hold != nil {
		// The grant came in the same instant, and the caller does not want it any more.
		w.given.hold.Abandon()
	}
	return locked
}

// report tells the caller of w that it has to wait. If the caller's function panics, or ends the
// goroutine, w is withdrawn.
func (l *localQueue) report(ctx context.Context, w *waiter, told <-chan struct{}) {
	returned := false
	defer func() {
		if !returned {
			_ = l.withdraw(w)
		}
	}()
	w.Waiting.report(told, ctx.Done())
	returned = true
}

// join puts w at the end of the local queue of a name, and makes the local queue if there is none.
// It returns the hold at once if the session has the key and the local queue is empty. It returns
// an attempt if w is to drive the local queue itself.
func (m *Manager) join(name string, w *waiter) (*localQueue, *attempt, *Hold, error) {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admits(); err != nil {
		return nil, nil, nil, err
	}
	l := m.locals.byID[name]
	if l == nil || l.waiters.Len() == 0 {
		if h, ok := m.atOnce(l, name, w); ok {
			return nil, nil, h, nil
		}
	}
	if l != nil && w.Try && l.refuses(w) {
		return nil, nil, nil, l.refusesHere()
	}
	switch {
	case l == nil || l.phase == idle && !l.counted:
		if err := m.checkNesting(name); err != nil {
			return nil, nil, nil, err
		}
		if l == nil {
			l = m.addLocal(name, name)
			l.enlist(w)
			return l, l.attempt(w), nil, nil
		}
	case w.Cycle != nil && w.Carried != nil && l.taken():
		l = m.addPrivate(name) // a wait in memory is not seen by other processes
	}
	l.enlist(w)
	if l.driver == driverNone {
		return l, l.attempt(w), nil, nil
	}
	l.wake()
	return l, nil, nil, nil
}

// joinAll makes a local queue for w alone.
func (m *Manager) joinAll(names []string, w *waiter) (*localQueue, error) {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admits(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := m.checkNesting(name); err != nil {
			return nil, err
		}
	}
	l := m.addPrivate(names...)
	l.enlist(w)
	return l, nil
}

// atOnce gives w a hold under a key that the session has, if there is one for it. Called with m.mu
// held.
func (m *Manager) atOnce(l *localQueue, name string, w *waiter) (*Hold, bool) {
	if l != nil && w.Rule != nil {
		l.owned.giveUpKept() // a kept key is for an exclusive request
	}
	switch {
	case w.Mode == wire.Shared:
		return m.beside.readers[name].share(w)
	case l == nil || w.Rule != nil:
		return nil, false
	default:
		return l.owned.take(w)
	}
}

// addLocal makes a local queue without a driver. Called with m.mu held.
func (m *Manager) addLocal(id string, names ...string) *localQueue {
	var slots []wire.Slot
	if id != names[0] {
		for _, name := range names {
			slots = append(slots, m.names.Take(name, wire.Slot{}))
		}
	}
	var single *queue.Queue
	var q place
	if len(names) > 1 {
		q = m.cfg.Queues.Set(names, slots)
	} else {
		single = m.cfg.Queues.Queue(names[0])
		q = single
	}
	l := &localQueue{
		manager: m,
		id:      id,
		name:    names[0],
		names:   names,
		slots:   slots,
		queue:   q,
		single:  single,
		counted: true,
	}
	m.locals.add(l)
	m.names.Use(names, 1)
	return l
}

// addPrivate makes a private local queue, which no other call joins. Called with m.mu held.
func (m *Manager) addPrivate(names ...string) *localQueue {
	l := m.addLocal(m.locals.privateID(), names...)
	l.work(nil)
	return l
}
