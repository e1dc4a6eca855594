package names

import "github.com/etcdlock/etcdlock/internal/wire"

// Slots are the keys that a session uses in its queues: the one that it has under each name in the
// first place, slot 0, and those beside that. Each of them has one owner: a caller or the sweeper.

// owner is the owner of a slot: nil for none, byCaller, or the sweeper, which closes the channel when it gives
// the slot back.
type owner chan struct{}

var byCaller = make(owner)

type usedSlot struct {
	name string
	slot wire.Slot
}

// owner returns the owner of a slot. Called with t.mu held.
func (t *Table) owner(name string, slot wire.Slot) owner {
	if slot != (wire.Slot{}) {
		return t.slots[usedSlot{name, slot}]
	}
	if n := t.all[name]; n != nil {
		return n.owner
	}
	return nil
}

// give gives a slot to an owner, or to none. Called with t.mu held.
func (t *Table) give(text string, slot wire.Slot, to owner) {
	n := t.all[text]
	switch {
	case slot != (wire.Slot{}) && to == nil:
		delete(t.slots, usedSlot{text, slot})
	case slot != (wire.Slot{}):
		t.slots[usedSlot{text, slot}] = to
	case n != nil:
		n.owner = to
		t.forget(n)
	case to != nil:
		t.all[text] = &name{text: text, owner: to}
	}
}

// Hold makes the caller the owner of a slot. It returns false if the slot has an owner. If that is the
// sweeper, the channel is closed when the sweeper gives the slot back.
func (t *Table) Hold(name string, slot wire.Slot) (held bool, swept <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch by := t.owner(name, slot); by {
	case nil:
		t.give(name, slot, byCaller)
		return true, nil
	case byCaller:
		return false, nil
	default:
		return false, by
	}
}

// HoldAll is Hold for a slot under each of some names: for all of them, or for none.
func (t *Table) HoldAll(all []string, of []wire.Slot) (held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, name := range all {
		if t.owner(name, of[i]) != nil {
			return false
		}
	}
	for i, name := range all {
		t.give(name, of[i], byCaller)
	}
	return true
}

// Take makes the caller the owner of the first slot of a rank that has no owner. It is never slot 0.
func (t *Table) Take(name string, rank wire.Slot) wire.Slot {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := rank
	for slot.N = 1; t.owner(name, slot) != nil; slot.N++ {
	}
	t.give(name, slot, byCaller)
	return slot
}

// Busy reports whether a slot has an owner.
func (t *Table) Busy(name string, slot wire.Slot) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owner(name, slot) != nil
}

// Drop gives up a slot of a caller.
func (t *Table) Drop(name string, slot wire.Slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owner(name, slot) == byCaller {
		t.give(name, slot, nil)
	}
}

// Borrow makes the sweeper the owner of a slot. It returns false if the slot has an owner.
func (t *Table) Borrow(name string, slot wire.Slot) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owner(name, slot) != nil {
		return false
	}
	t.give(name, slot, make(owner))
	return true
}

// GiveBack gives up a slot that was borrowed.
func (t *Table) GiveBack(name string, slot wire.Slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.owner(name, slot))
	t.give(name, slot, nil)
}
