// Package names has the names that a session uses, and the slots of its keys under them. Its mutex is
// a leaf, so its functions may be called with any other mutex held. None of them does work that grows
// with the number of names, but once in as many calls.
package names

import (
	"fmt"
	"slices"
	"sync"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Table has the names that one session uses, and the slots of its keys.
type Table struct {
	mu     sync.Mutex
	all    map[string]*name // those in use, and those with an owner of slot 0
	used   []*name          // those in use: any of them is found without a search, and the same one in each run of a simulation
	inside map[string]*inner
	slots  map[usedSlot]owner // all but slot 0
}

// name is what is known of a name, from one first use to the last one.
type name struct {
	text  string
	uses  int32
	index int32 // in Table.used
	owner owner // of slot 0
}

// inner has the used names that lie inside another name.
type inner struct {
	count int
	names []*name // with some that are not used any more
}

// New returns an empty table.
func New() *Table {
	return &Table{all: make(map[string]*name), inside: make(map[string]*inner), slots: make(map[usedSlot]owner)}
}

// Use counts a use of each of some names, or discounts one for by = -1.
func (t *Table) Use(all []string, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range all {
		n := t.all[text]
		if n == nil || n.uses == 0 {
			n = t.begin(text)
		}
		if n.uses += int32(by); n.uses == 0 {
			t.end(n)
		}
	}
}

// begin begins the use of a name. Called with t.mu held.
func (t *Table) begin(text string) *name {
	n := &name{text: text, index: int32(len(t.used))}
	if last := t.all[text]; last != nil {
		n.owner = last.owner
	}
	t.all[text] = n
	t.used = append(t.used, n)
	for outer := range wire.Ancestors(text) {
		in := t.inside[outer]
		if in == nil {
			in = &inner{}
			t.inside[outer] = in
		}
		in.add(n)
	}
	return n
}

// end ends the use of a name. Called with t.mu held.
func (t *Table) end(n *name) {
	last := len(t.used) - 1
	t.used[n.index] = t.used[last]
	t.used[n.index].index = n.index
	t.used[last] = nil
	t.used = t.used[:last]
	for outer := range wire.Ancestors(n.text) {
		if in := t.inside[outer]; in.count > 1 {
			in.count--
		} else {
			delete(t.inside, outer)
		}
	}
	t.forget(n)
}

// forget forgets a name that is not used, and has no owner of slot 0. Called with t.mu held.
func (t *Table) forget(n *name) {
	if n.uses == 0 && n.owner == nil {
		delete(t.all, n.text)
	}
}

func (in *inner) add(n *name) {
	if len(in.names) > 2*in.count+8 {
		in.names = slices.DeleteFunc(in.names, (*name).unused)
	}
	in.names = append(in.names, n)
	in.count++
}

// any returns one of the names.
func (in *inner) any() string {
	for {
		last := len(in.names) - 1
		if n := in.names[last]; !n.unused() {
			return n.text
		}
		in.names = in.names[:last]
	}
}

func (n *name) unused() bool { return n.uses == 0 }

// Any returns a name that is in use; false if there is none.
func (t *Table) Any() (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.used) == 0 {
		return "", false
	}
	return t.used[0].text, true
}

// Len returns how many names are in use, and how many names such a name lies inside.
func (t *Table) Len() (used, outer int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.used), len(t.inside)
}

// CheckNesting refuses a name that lies inside another one that is in use, or around one, and returns
// this other name. Names of other sessions are found in etcd.
func (t *Table) CheckNesting(name string) (other string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for outer := range wire.Ancestors(name) {
		if n := t.all[outer]; n != nil && !n.unused() {
			return outer, fmt.Errorf("%w: this session uses %s, and %s is inside it: rename one of the two", lockerr.ErrNestedName, wire.Quote(outer), wire.Quote(name))
		}
	}
	if in := t.inside[name]; in != nil {
		other = in.any()
		return other, fmt.Errorf("%w: this session uses %s, which is inside %s: rename one of the two", lockerr.ErrNestedName, wire.Quote(other), wire.Quote(name))
	}
	return "", nil
}
