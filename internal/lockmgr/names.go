package lockmgr

import (
	"fmt"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// names are those that a session uses, or has keys under.
type names struct {
	using  map[string]int // by how many local queues, and ownerships beside them
	inside map[string]int // how many uses there are of names that lie inside this one
	slots  slots
}

func newNames() names {
	return names{using: make(map[string]int), inside: make(map[string]int), slots: make(slots)}
}

// use counts uses of names, or discounts them.
func (n *names) use(all []string, by int) {
	for _, name := range all {
		add(n.using, name, by)
		for outer := range wire.Ancestors(name) {
			add(n.inside, outer, by)
		}
	}
}

func add(counts map[string]int, name string, by int) {
	if counts[name] += by; counts[name] == 0 {
		delete(counts, name)
	}
}

// checkNesting is that of the names in use. Local queues at rest do not count when it comes to that.
// Called with m.mu held.
func (m *Manager) checkNesting(name string) error {
	err := m.names.checkNesting(name)
	if err != nil && m.forgetResting() {
		err = m.names.checkNesting(name)
	}
	return err
}

// checkNesting refuses a name that lies inside another one that is in use by this
// session, or around one. Other sessions' are found in etcd.
func (n *names) checkNesting(name string) error {
	for outer := range wire.Ancestors(name) {
		if n.using[outer] > 0 {
			return fmt.Errorf("%w: this session uses %s, and %s is inside it: rename one of the two", lockerr.ErrNestedName, wire.Quote(outer), wire.Quote(name))
		}
	}
	if n.inside[name] > 0 {
		for inner := range n.using {
			if _, nested := wire.Nested(name, inner+"/"); nested {
				return fmt.Errorf("%w: this session uses %s, which is inside %s: rename one of the two", lockerr.ErrNestedName, wire.Quote(inner), wire.Quote(name))
			}
		}
	}
	return nil
}

// slots are the keys that a session uses in its queues: the one that it has under each name in
// the first place, slot 0, and those beside that.
type slots map[usedSlot]struct{}

type usedSlot struct {
	name string
	slot wire.Slot
}

// take returns the first one beside that which is not in use, of that rank.
func (s slots) take(name string, rank wire.Slot) wire.Slot {
	slot := rank
	for slot.N = 1; s.busy(name, slot); {
		slot.N++
	}
	s.hold(name, slot)
	return slot
}

func (s slots) busy(name string, slot wire.Slot) bool {
	_, busy := s[usedSlot{name, slot}]
	return busy
}

func (s slots) hold(name string, slot wire.Slot) { s[usedSlot{name, slot}] = struct{}{} }

func (s slots) drop(name string, slot wire.Slot) { delete(s, usedSlot{name, slot}) }
