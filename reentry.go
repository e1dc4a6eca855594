package etcdlock

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Go does not tell which goroutine calls, and a call may go on in others. So the context of a
// hold carries the hold: a call under this context that asks for the same name would wait for
// its own caller.

// carried is a hold that a context carries, and those around it.
type carried struct {
	hold  *hold
	outer *carried
}

type carryKey struct{}

// carriedBy is the innermost hold that a context carries; nil if it carries none.
func carriedBy(ctx context.Context) *carried {
	c, _ := ctx.Value(carryKey{}).(*carried)
	return c
}

// of finds the hold of a name by a session; nil if there is none, or if it is over.
func (c *carried) of(m *manager, name string) *hold {
	for ; c != nil; c = c.outer {
		if l := c.hold.tenure.line; l.manager == m && slices.Contains(l.names, name) && c.hold.Err() == nil {
			return c.hold
		}
	}
	return nil
}

// elsewhere finds a hold by another session of the client that keeps w out of one of the names for as
// long as it lasts; nil if there is none. By another client it may be a hold in another etcd.
func (c *carried) elsewhere(m *manager, w *waiter, names []string) *hold {
	for ; c != nil; c = c.outer {
		l := c.hold.tenure.line
		if l.manager != m && l.manager.client == m.client && c.hold.Err() == nil && c.hold.tenure.excludes(w) &&
			slices.ContainsFunc(names, func(name string) bool { return slices.Contains(l.names, name) }) {
			return c.hold
		}
	}
	return nil
}

// excludes tells whether w can hold beside the ownership under no circumstances.
func (t *ownership) excludes(w *waiter) bool {
	t.line.manager.mu.Lock()
	defer t.line.manager.mu.Unlock()
	return w.mode != t.mode || w.mode == wire.Exclusive
}

// keys are those by which everything is held that a context carries.
func (c *carried) keys() []string {
	var keys []string
	for ; c != nil; c = c.outer {
		if c.hold.Err() != nil {
			continue
		}
		for _, e := range c.hold.tenure.entry.Parts() {
			if !slices.Contains(keys, e.Key) {
				keys = append(keys, e.Key)
			}
		}
	}
	return keys
}

// nested gives w a hold within the one that its context carries, if w asks for re-entry, or fails
// with a DeadlockError. It returns nil and nil if the context carries no hold of the names, so
// that w has to wait in line.
func (w *waiter) nested(m *manager, names ...string) (*hold, error) {
	if w.carried == nil {
		return nil, nil
	}
	var outer []*hold
	for _, name := range names {
		if h := w.carried.of(m, name); h != nil {
			outer = append(outer, h)
		}
	}
	h, hint, err := w.reenter(m, outer, names)
	if h == nil && err == nil {
		if h = w.carried.elsewhere(m, w, names); h != nil {
			hint = "another session of this client holds it, release it first"
		}
	}
	if hint == "" {
		return h, err
	}
	waiter := QueueEntry{Owner: m.owner, Mode: ModeCandidate}
	if !w.candidate {
		waiter = QueueEntry{Owner: w.owner, Mode: modes[w.mode], Permits: w.permits}
	}
	deadlock := w.carried.deadlock(waiter, h, hint)
	if w.try {
		return nil, fmt.Errorf("%w: %w", &LockedError{Holder: deadlock.Cycle[0].For, Known: true, carried: true}, deadlock)
	}
	return nil, deadlock
}

// reenter decides what a call under the context of other holds of its names gets: another hold of
// their turn, ErrReentryLimit, or a hint of what to do instead, with the hold that is in the way.
// All are zero if none of the holds lasts any more.
func (w *waiter) reenter(m *manager, outer []*hold, names []string) (h *hold, hint string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outer = slices.DeleteFunc(outer, func(h *hold) bool { return h.turn.holds == 0 || !h.tenure.open() })
	if len(outer) == 0 {
		return nil, "", nil
	}
	h = outer[0]
	t := h.tenure
	switch {
	case w.mode == wire.Exclusive && t.mode == wire.Shared && !w.candidate:
		return h, "use Upgrade, or release the read lock first", nil
	case !t.covers(w, names):
		return h, "release it first", nil
	case w.terms.reentry < 1:
		return h, "call under the context from before that hold, or lock with WithReentry", nil
	case h.turn.holds >= w.terms.reentry:
		return nil, "", fmt.Errorf("%w: %d", ErrReentryLimit, h.turn.holds)
	}
	return h.turn.hold(w.values, t, t.entryOf(names[0]), w.terms), "", nil
}

// covers tells whether a hold of the ownership is all that w asks for. Called with manager.mu held.
func (t *ownership) covers(w *waiter, names []string) bool {
	if w.candidate || slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(t.line.names, name) }) {
		return false
	}
	switch w.mode {
	case wire.Counted:
		return t.mode == wire.Counted && w.permits <= t.permits
	case wire.Shared:
		return t.mode == wire.Shared || t.mode == wire.Exclusive
	default:
		return t.mode == wire.Exclusive
	}
}

// deadlock is the error of a call that would wait for a hold which its own context carries.
func (c *carried) deadlock(waiter QueueEntry, h *hold, hint string) *DeadlockError {
	waiter.Host, waiter.PID, waiter.Holds = hostname(), pid(), c.keys()
	return &DeadlockError{Cycle: Deadlock{{Waiter: waiter, For: newQueueEntry(h.entry.KV(), true)}}, hint: hint}
}

// besides finds a hold of the same name and client as h that is not of the turn of h; nil if the
// context carries none.
func (c *carried) besides(h *hold) *hold {
	l := h.tenure.line
	for ; c != nil; c = c.outer {
		if o := c.hold; o.turn != h.turn && o.tenure.line.manager.client == l.manager.client && slices.Contains(o.tenure.line.names, l.name) && o.Err() == nil {
			return o
		}
	}
	return nil
}

// entryOf is the entry of one of the names that are held.
func (t *ownership) entryOf(name string) *queue.Entry {
	return t.entry.Parts()[slices.Index(t.line.names, name)]
}
