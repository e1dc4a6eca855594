package names

import "github.com/etcdlock/etcdlock/internal/wire"

// slots are the keys that a session uses in its queues: the one that it has under each name in the
// first place, slot 0, and those beside that. Each of them has one owner: a caller or the sweeper.
type slots map[usedSlot]chan struct{} // nil: of a caller; closed when the sweeper gives the slot back

type usedSlot struct {
	name string
	slot wire.Slot
}

// Hold makes the caller the owner of a slot. It returns false if the slot has an owner. If that is the
// sweeper, the channel is closed when the sweeper gives the slot back.
func (t *Table) Hold(name string, slot wire.Slot) (held bool, swept <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	owner, busy := t.slots[usedSlot{name, slot}]
	if !busy {
		t.slots[usedSlot{name, slot}] = nil
	}
	return !busy, owner
}

// HoldAll is Hold for a slot under each of some names: for all of them, or for none.
func (t *Table) HoldAll(all []string, of []wire.Slot) (held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, name := range all {
		if _, busy := t.slots[usedSlot{name, of[i]}]; busy {
			return false
		}
	}
	for i, name := range all {
		t.slots[usedSlot{name, of[i]}] = nil
	}
	return true
}

// Take makes the caller the owner of the first slot of a rank that has no owner. It is never slot 0.
func (t *Table) Take(name string, rank wire.Slot) wire.Slot {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := rank
	for slot.N = 1; ; slot.N++ {
		if _, busy := t.slots[usedSlot{name, slot}]; !busy {
			t.slots[usedSlot{name, slot}] = nil
			return slot
		}
	}
}

// Busy reports whether a slot has an owner.
func (t *Table) Busy(name string, slot wire.Slot) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, busy := t.slots[usedSlot{name, slot}]
	return busy
}

// Drop gives up a slot of a caller.
func (t *Table) Drop(name string, slot wire.Slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.slots[usedSlot{name, slot}] == nil {
		delete(t.slots, usedSlot{name, slot})
	}
}

// Borrow makes the sweeper the owner of a slot. It returns false if the slot has an owner.
func (t *Table) Borrow(name string, slot wire.Slot) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.slots[usedSlot{name, slot}]; busy {
		return false
	}
	t.slots[usedSlot{name, slot}] = make(chan struct{})
	return true
}

// GiveBack gives up a slot that was borrowed.
func (t *Table) GiveBack(name string, slot wire.Slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.slots[usedSlot{name, slot}])
	delete(t.slots, usedSlot{name, slot})
}
