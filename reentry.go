package etcdlock

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Go does not tell which goroutine calls, and a call may go on in others. So who may enter
// again what he holds is known by the context: that of a hold carries it.

// carried is a hold that a context carries, and those around it.
type carried struct {
	hold  *Hold
	outer *carried
}

type carryKey struct{}

// carriedBy is the innermost hold that a context carries; nil if it carries none.
func carriedBy(ctx context.Context) *carried {
	c, _ := ctx.Value(carryKey{}).(*carried)
	return c
}

// of finds the hold of a name by a session; nil if there is none, or if it is over.
func (c *carried) of(s *Session, name string) *Hold {
	for ; c != nil; c = c.outer {
		if l := c.hold.tenure.line; l.session == s && slices.Contains(l.names, name) && c.hold.Err() == nil {
			return c.hold
		}
	}
	return nil
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

// nested gives w a hold within the one that his context carries: nil without an error if
// it carries none of this name, so that he has to wait like anyone else.
func (w *waiter) nested(s *Session, name string) (*Hold, error) {
	outer := w.carried.of(s, name)
	if outer == nil {
		return nil, nil
	}
	t := outer.tenure
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case outer.turn.holds == 0 || !t.open():
		return nil, nil // it is over by now
	case w.mode == wire.Counted && t.mode == wire.Counted:
		return nil, nil // further permits
	case w.mode == wire.Counted || t.mode == wire.Counted || strings.HasPrefix(w.as, candidate):
		return nil, w.never(outer, "the context carries a hold of this name (key %s), which would be waited for", wire.Quote(outer.Key()))
	case w.mode == wire.Exclusive && t.mode == wire.Shared:
		return nil, w.never(outer, "the context carries a read lock of this name (key %s): use Upgrade", wire.Quote(outer.Key()))
	case w.terms.depth > 0 && outer.turn.holds >= w.terms.depth:
		return nil, fmt.Errorf("%w: %d", ErrReentryLimit, outer.turn.holds)
	}
	return outer.turn.hold(w.values, t, t.entryOf(name), w.terms), nil
}

// never is what is told to who would wait for himself. For who does not wait, it is that
// somebody is ahead as well.
func (w *waiter) never(h *Hold, format string, args ...any) error {
	err := &DeadlockError{why: fmt.Sprintf(format, args...)}
	if w.try {
		return fmt.Errorf("%w: %w", &LockedError{Holder: newQueueEntry(h.entry.KV(), true), Known: true, own: true}, err)
	}
	return err
}

// entryOf is the entry of one of the names that are held.
func (t *tenure) entryOf(name string) *queue.Entry {
	return t.entry.Parts()[slices.Index(t.line.names, name)]
}
