// Package names has the names that a session uses, and the slots of its keys under them. Its mutex is
// a leaf, so its functions may be called with any other mutex held. None of them does work that grows
// with the number of names.
package names

import (
	"fmt"
	"sync"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Table has the names that one session uses, and the slots of its keys.
type Table struct {
	mu     sync.Mutex
	used   counts
	inside map[string]*counts // by a name that contains others: the used names that lie inside it
	slots  slots
}

// New returns an empty table.
func New() *Table {
	return &Table{used: newCounts(), inside: make(map[string]*counts), slots: make(slots)}
}

// Use counts a use of each of some names, or discounts one for by = -1.
func (t *Table) Use(all []string, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range all {
		t.used.add(name, by)
		for outer := range wire.Ancestors(name) {
			inner := t.inside[outer]
			if inner == nil {
				made := newCounts()
				inner = &made
				t.inside[outer] = inner
			}
			if inner.add(name, by); len(inner.all) == 0 {
				delete(t.inside, outer)
			}
		}
	}
}

// Any returns a name that is in use; false if there is none.
func (t *Table) Any() (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used.any()
}

// Len returns how many names are in use, and how many names such a name lies inside.
func (t *Table) Len() (used, outer int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.used.all), len(t.inside)
}

// CheckNesting refuses a name that lies inside another one that is in use, or around one, and returns
// this other name. Names of other sessions are found in etcd.
func (t *Table) CheckNesting(name string) (other string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for outer := range wire.Ancestors(name) {
		if _, ok := t.used.index[outer]; ok {
			return outer, fmt.Errorf("%w: this session uses %s, and %s is inside it: rename one of the two", lockerr.ErrNestedName, wire.Quote(outer), wire.Quote(name))
		}
	}
	if inner := t.inside[name]; inner != nil {
		other, _ = inner.any()
		return other, fmt.Errorf("%w: this session uses %s, which is inside %s: rename one of the two", lockerr.ErrNestedName, wire.Quote(other), wire.Quote(name))
	}
	return "", nil
}

// counts are names with counts above 0. Any of them is found without a search, and the same one in
// each run of a simulation.
type counts struct {
	index map[string]int // in all
	all   []counted
}

type counted struct {
	name string
	n    int
}

func newCounts() counts { return counts{index: make(map[string]int)} }

func (c *counts) add(name string, by int) {
	i, ok := c.index[name]
	if !ok {
		i = len(c.all)
		c.index[name] = i
		c.all = append(c.all, counted{name: name})
	}
	if c.all[i].n += by; c.all[i].n > 0 {
		return
	}
	last := len(c.all) - 1
	c.all[i] = c.all[last]
	c.index[c.all[i].name] = i
	c.all[last] = counted{}
	c.all = c.all[:last]
	delete(c.index, name)
}

func (c *counts) any() (name string, ok bool) {
	if len(c.all) == 0 {
		return "", false
	}
	return c.all[0].name, true
}
