// Package waitgraph finds cycles among waits for locks.
//
// A node of the graph is a waiter: the owner of one entry, or of several entries that were written
// together. It has an edge to each node that it cannot proceed without: to the owner of an entry
// that keeps one of its own entries out, and to each node that holds the key of this entry while
// waiting elsewhere. Nodes without an entry that waits cannot be part of a cycle.
//
// The package is pure: it reads values and returns values.
package waitgraph

import (
	"cmp"
	"slices"
	"strings"
)

// Entry is one key in the queue of a lock.
type Entry struct {
	Key   string
	Order int64    // the place among all entries: the create revision of Key
	Set   string   // the same for all entries that were written together; empty for a single entry
	Ahead []string // keys of the entries that keep this entry out; empty for the entry of a holder
	Holds []string // keys that the entry's owner holds while the entry waits
}

// Edge is one wait: the entry that waits, and an entry that keeps it out.
type Edge struct {
	Waiter, For string // keys
}

// Cycle is a list of edges. The entry that each edge waits for belongs to the node that waits in
// the next edge, or is held by this node. The last edge leads back to the first.
type Cycle []Edge

// Graph contains the waits among some entries. A Graph is for one goroutine.
type Graph struct {
	nodes   []*node            // oldest first
	byKey   map[string]*node   // by the key of an entry
	holders map[string][]*node // by a held key: the nodes that hold it
}

// node is one waiter or holder. Its first entry gives its age.
type node struct {
	entries []Entry
	links   []link // to other nodes; nil until first use
}

// link is an edge, and the node that it leads to.
type link struct {
	Edge
	to *node
}

// New returns the graph of some entries. Entries of one set are one node, and the first of them
// gives its age.
func New(entries []Entry) *Graph {
	g := &Graph{byKey: make(map[string]*node, len(entries)), holders: make(map[string][]*node)}
	sets := make(map[string]*node)
	for _, e := range entries {
		n := sets[e.Set]
		if n == nil || e.Set == "" {
			n = &node{}
			sets[e.Set] = n
			g.nodes = append(g.nodes, n)
		}
		n.entries = append(n.entries, e)
		g.byKey[e.Key] = n
		for _, key := range e.Holds {
			if !slices.Contains(g.holders[key], n) {
				g.holders[key] = append(g.holders[key], n)
			}
		}
	}
	slices.SortFunc(g.nodes, (*node).compareAge)
	return g
}

// Cycles returns the deadlocks: for each node that holds a key and is part of a cycle, the shortest
// cycle through this node. A cycle that several nodes share is returned once. The cycle of the
// oldest node comes first.
func (g *Graph) Cycles() []Cycle {
	var found []Cycle
	seen := make(map[string]bool)
	stuck := g.stuck()
	for _, n := range g.nodes {
		if !stuck[n] || !n.holds() {
			continue // each cycle has a node that holds: within queues alone, waits lead to older entries
		}
		c := g.shortest(n, func(n *node) bool { return stuck[n] })
		if c != nil && !seen[c.id()] {
			seen[c.id()] = true
			found = append(found, c)
		}
	}
	return found
}

// CycleOfVictim returns the shortest cycle in which the node of an entry is the youngest. Of each
// cycle the youngest node is the victim. Exactly one of the waiters in a cycle is therefore its
// victim, even if all of them look at the same time. CycleOfVictim returns nil if there is no such
// cycle, or no entry with this key and order.
func (g *Graph) CycleOfVictim(key string, order int64) Cycle {
	n := g.byKey[key]
	if n == nil || n.entries[0].Order != order {
		return nil
	}
	return g.shortest(n, func(o *node) bool { return o.compareAge(n) < 0 })
}

// compareAge orders nodes by age. A session can write entries of several names at one revision.
// Their keys then decide, because all processes must agree on the youngest node.
func (n *node) compareAge(o *node) int {
	a, b := n.entries[0], o.entries[0]
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Key, b.Key))
}

func (n *node) waits() bool {
	return slices.ContainsFunc(n.entries, func(e Entry) bool { return len(e.Ahead) > 0 })
}

func (n *node) holds() bool {
	return slices.ContainsFunc(n.entries, func(e Entry) bool { return len(e.Holds) > 0 })
}

// linksOf returns the links to those nodes that n waits for and that wait themselves, to the oldest
// node first.
func (g *Graph) linksOf(n *node) []link {
	if n.links != nil {
		return n.links
	}
	all := []link{}
	for _, e := range n.entries {
		for _, key := range e.Ahead {
			if owner := g.byKey[key]; owner != nil && owner != n && owner.waits() {
				all = append(all, link{Edge{e.Key, key}, owner})
			}
			for _, holder := range g.holders[key] {
				if holder.waits() {
					all = append(all, link{Edge{e.Key, key}, holder})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b link) int { return a.to.compareAge(b.to) })
	n.links = all
	return all
}

// stuck returns the nodes that remain after the nodes without a link, and those without a link to
// them, have been removed until there is none. All cycles lie among them. Most often none remains,
// which spares a search from each place of a long queue.
func (g *Graph) stuck() map[*node]bool {
	left := make(map[*node]bool, len(g.nodes))
	out, in := make(map[*node]int), make(map[*node]int)
	back := make(map[*node][]*node)
	for _, n := range g.nodes {
		left[n] = true
		for _, l := range g.linksOf(n) {
			out[n]++
			in[l.to]++
			back[l.to] = append(back[l.to], n)
		}
	}
	for todo := slices.Clone(g.nodes); len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !left[n] || out[n] > 0 && in[n] > 0 {
			continue
		}
		delete(left, n)
		for _, l := range g.linksOf(n) {
			in[l.to]--
			todo = append(todo, l.to)
		}
		for _, before := range back[n] {
			out[before]--
			todo = append(todo, before)
		}
	}
	return left
}

// shortest returns the shortest cycle through a node with only usable other nodes, or nil.
func (g *Graph) shortest(from *node, usable func(*node) bool) Cycle {
	type visit struct {
		link
		before *visit
	}
	reached := make(map[*node]bool)
	for todo := []*visit{{link: link{to: from}}}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		for _, l := range g.linksOf(at.to) {
			v := &visit{l, at}
			if l.to == from {
				var c Cycle
				for ; v.before != nil; v = v.before {
					c = append(c, v.Edge)
				}
				slices.Reverse(c)
				return c
			}
			if !reached[l.to] && usable(l.to) {
				reached[l.to] = true
				todo = append(todo, v)
			}
		}
	}
	return nil
}

// id is the same for all rotations of a cycle.
func (c Cycle) id() string {
	keys := make([]string, len(c))
	for i, e := range c {
		keys[i] = e.Waiter
	}
	slices.Sort(keys)
	return strings.Join(keys, "\x00")
}
