package lockmgr

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A Go function cannot know which goroutine calls it, and a call may go on in other goroutines. The
// context of a hold therefore carries the hold. A call under this context that asks for the same
// name would wait for its own caller.

// Carried is a hold that a context carries, and those around it.
type Carried struct {
	hold  *Hold
	outer *Carried
}

type carryKey struct{}

// CarriedBy returns the innermost hold that a context carries; nil if it carries none.
func CarriedBy(ctx context.Context) *Carried {
	c, _ := ctx.Value(carryKey{}).(*Carried)
	return c
}

// Carry returns a context that carries holds.
func Carry(ctx context.Context, c *Carried) context.Context {
	return context.WithValue(ctx, carryKey{}, c)
}

// of finds the hold of a name by a session; nil if there is none, or if it is over.
func (c *Carried) of(m *Manager, name string) *Hold {
	for ; c != nil; c = c.outer {
		if l := c.hold.owned.local; l.manager == m && slices.Contains(l.names, name) && c.hold.Err() == nil {
			return c.hold
		}
	}
	return nil
}

// elsewhere finds a hold by another session of the client that keeps w out of one of the names for as
// long as it lasts; nil if there is none. By another client it may be a hold in another etcd.
func (c *Carried) elsewhere(m *Manager, w *waiter, names []string) *Hold {
	for ; c != nil; c = c.outer {
		l := c.hold.owned.local
		if l.manager != m && l.manager.cfg.Client == m.cfg.Client && c.hold.Err() == nil && c.hold.owned.excludes(w) &&
			slices.ContainsFunc(names, func(name string) bool { return slices.Contains(l.names, name) }) {
			return c.hold
		}
	}
	return nil
}

// excludes tells whether w can never hold beside the ownership.
func (t *ownership) excludes(w *waiter) bool {
	t.local.manager.mu.Lock()
	defer t.local.manager.mu.Unlock()
	return w.Mode != t.mode || w.Mode == wire.Exclusive
}

// keys are those by which everything is held that a context carries.
func (c *Carried) keys() []string {
	var keys []string
	for ; c != nil; c = c.outer {
		if c.hold.Err() != nil {
			continue
		}
		for _, e := range c.hold.owned.entry.Parts() {
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
func (w *waiter) nested(m *Manager, names ...string) (*Hold, error) {
	if w.Carried == nil {
		return nil, nil
	}
	var outer []*Hold
	for _, name := range names {
		if h := w.Carried.of(m, name); h != nil {
			outer = append(outer, h)
		}
	}
	h, hint, err := w.reenter(m, outer, names)
	if h == nil && err == nil {
		if h = w.Carried.elsewhere(m, w, names); h != nil {
			hint = "another session of this client holds it: release it first"
		}
	}
	if hint == "" {
		return h, err
	}
	deadlock := w.Carried.deadlock(h, hint)
	deadlock.Request = &w.Request
	return nil, deadlock
}

// reenter decides what a call under the context of other holds of its names gets: another hold of
// their holder, ErrReentryLimit, or a hint of what to do instead, with the hold that is in the way.
// All are zero if none of the holds lasts any more.
func (w *waiter) reenter(m *Manager, outer []*Hold, names []string) (h *Hold, hint string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outer = slices.DeleteFunc(outer, func(h *Hold) bool { return h.holder.holds == 0 || !h.owned.open() })
	if len(outer) == 0 {
		return nil, "", nil
	}
	h = outer[0]
	t := h.owned
	switch {
	case w.Mode == wire.Exclusive && t.mode == wire.Shared && !w.Candidate:
		return h, "use Upgrade, or release the read lock first", nil
	case !t.covers(w, names):
		return h, "release it first", nil
	case w.Terms.Reentry < 1:
		return h, "call under the context from before that hold, or lock with WithReentry", nil
	case h.holder.holds >= w.Terms.Reentry:
		return nil, "", fmt.Errorf("%w: %d", lockerr.ErrReentryLimit, h.holder.holds)
	}
	return h.holder.hold(w.values, t, t.entryOf(names[0]), w.Terms, PathLocal), "", nil
}

// covers tells whether a hold of the ownership is all that w asks for. Called with Manager.mu held.
func (t *ownership) covers(w *waiter, names []string) bool {
	if w.Candidate || slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(t.local.names, name) }) {
		return false
	}
	switch w.Mode {
	case wire.Counted:
		return t.mode == wire.Counted && w.Permits <= t.permits
	case wire.Shared:
		return t.mode == wire.Shared || t.mode == wire.Exclusive
	default:
		return t.mode == wire.Exclusive
	}
}

// deadlock is the error of a call that would wait for a hold which its own context carries.
func (c *Carried) deadlock(h *Hold, hint string) *CarriedError {
	return &CarriedError{Holds: c.keys(), For: h.entry.KV(), Hint: hint}
}

// besides finds a hold of the same name and client as h that is of another holder than h. It
// returns nil if the context carries none.
func (c *Carried) besides(h *Hold) *Hold {
	l := h.owned.local
	for ; c != nil; c = c.outer {
		if o := c.hold; o.holder != h.holder && o.owned.local.manager.cfg.Client == l.manager.cfg.Client && slices.Contains(o.owned.local.names, l.name) && o.Err() == nil {
			return o
		}
	}
	return nil
}

// entryOf is the entry of one of the names that are held.
func (t *ownership) entryOf(name string) *queue.Entry {
	return t.entry.Parts()[slices.Index(t.local.names, name)]
}
