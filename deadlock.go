package etcdlock

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Deadlock is a cycle of waits. The waiter of each edge waits for an entry of the waiter of the
// next edge, and the waiter of the last edge for an entry of the first.
type Deadlock []DeadlockEdge

// DeadlockEdge is one wait of a [Deadlock].
type DeadlockEdge struct {
	Waiter QueueEntry // the waiting entry; its Holds are the keys that its owner holds meanwhile
	For    QueueEntry // the entry that keeps it out: a key that the next waiter holds, or waits with
}

// String tells it in one line, waiter by waiter.
func (d Deadlock) String() string {
	var b strings.Builder
	for i, w := range d {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, pid %d) ", w.Waiter.Owner, w.Waiter.Host, w.Waiter.PID)
		if w.Waiter.Key == "" {
			fmt.Fprintf(&b, "would wait for %s, which the context of its call holds", wire.Quote(w.For.Key))
			continue
		}
		fmt.Fprintf(&b, "waits with %s for %s", wire.Quote(w.Waiter.Key), wire.Quote(w.For.Key))
	}
	return b.String()
}

// Deadlocks reads all holders and waiters under a prefix, at one revision, and finds the cycles of
// waits among them: for each waiter in a cycle that holds something meanwhile, the shortest cycle
// that it is in. Entries in the queue between the two belong to the cycle. It blocks until etcd has
// answered or ctx ends.
//
// What a waiter holds is known from the context of its call, see [WithDeadlockDetection], and
// stands in its entry. Deadlocks cannot see waits that are not recorded in etcd: those of other
// libraries, calls whose context does not carry what the caller holds, candidates of an election,
// and a wait for another goroutine of the same session unless it has WithDeadlockDetection.
//
// Errors: the error of ctx, [ErrSessionClosed], and what etcd refuses.
func (s *Session) Deadlocks(ctx context.Context, prefix string) ([]Deadlock, error) {
	if s == nil || s.Err() != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), s.usable("-"))
	}
	kvs, err := queue.Snapshot(ctx, s.kv, prefix)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), err)
	}
	g := newWaitGraph(kvs)
	var found []Deadlock
	seen := make(map[string]bool)
	within := g.stuck()
	for _, n := range g.nodes {
		if !within[n] || !n.holds() {
			continue // in lines alone there is no cycle
		}
		cycle := g.cycle(n, func(n *waitNode) bool { return within[n] })
		if cycle != nil && !seen[cycle.id()] {
			seen[cycle.id()] = true
			found = append(found, cycle)
		}
	}
	return found, nil
}

// checkCycle fails with a DeadlockError if a caller waits for w, directly or not, for whom w
// would wait with its entry e; and w came last of all in that cycle, so that only one of them
// is told.
func (s *Session) checkCycle(ctx context.Context, w *waiter, e *queue.Entry) error {
	if w.cycle == nil || w.carried == nil {
		return nil
	}
	kvs, err := queue.Snapshot(ctx, s.kv, *w.cycle)
	if err != nil {
		return err
	}
	g := newWaitGraph(kvs)
	own := g.byKey[e.Key]
	if own == nil || own.entries[0].CreateRevision != e.CreateRevision {
		return nil // not under the prefix, or gone; the wait tells
	}
	cycle := g.cycle(own, func(n *waitNode) bool { return n.compare(own) < 0 })
	if cycle == nil {
		return nil
	}
	return &DeadlockError{Cycle: cycle}
}

// waitGraph is who waits for whom.
type waitGraph struct {
	nodes  []*waitNode
	byKey  map[string]*waitNode
	holder map[string][]*waitNode // by key: who waits, and holds that meanwhile
}

// waitNode is one waiter or holder: an entry, or those that were entered at once.
type waitNode struct {
	entries []*queue.Contender
	links   []link // once they are asked for
}

// compare is by who came first. One session can write entries of several names at one
// revision; then the keys decide, as all who look must agree on who was last.
func (n *waitNode) compare(o *waitNode) int {
	a, b := n.entries[0], o.entries[0]
	return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(string(a.Key), string(b.Key)))
}

func (n *waitNode) waits() bool {
	return slices.ContainsFunc(n.entries, func(c *queue.Contender) bool { return len(c.Ahead) > 0 })
}

func (n *waitNode) holds() bool {
	return slices.ContainsFunc(n.entries, func(c *queue.Contender) bool { return len(c.Want.Holds) > 0 })
}

// link is that a node waits, with one of its entries, for blocker, and so for to.
type link struct {
	own, blocker *queue.Contender
	to           *waitNode
}

func newWaitGraph(kvs []*mvccpb.KeyValue) *waitGraph {
	queues := make(map[string][]*mvccpb.KeyValue)
	for _, kv := range kvs { // in the order of their keys
		if name, ok := wire.NameOf(string(kv.Key)); ok {
			queues[name] = append(queues[name], kv)
		}
	}
	g := &waitGraph{byKey: make(map[string]*waitNode), holder: make(map[string][]*waitNode)}
	sets := make(map[string]*waitNode)
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		for _, c := range queue.Contenders(queues[name]) {
			g.add(c, sets)
		}
	}
	slices.SortFunc(g.nodes, (*waitNode).compare)
	return g
}

// add makes a node for a contender, unless it belongs to one of the sets.
func (g *waitGraph) add(c *queue.Contender, sets map[string]*waitNode) {
	n := &waitNode{}
	if len(c.Want.All) > 0 {
		id := fmt.Sprintf("%d %d %q", c.Lease, c.CreateRevision, c.Want.All)
		if sets[id] == nil {
			sets[id] = n
		}
		n = sets[id]
	}
	if n.entries = append(n.entries, c); len(n.entries) == 1 {
		g.nodes = append(g.nodes, n)
	}
	g.byKey[string(c.Key)] = n
	for _, key := range c.Want.Holds {
		if !slices.Contains(g.holder[key], n) {
			g.holder[key] = append(g.holder[key], n)
		}
	}
}

// links are from a node to those that it waits for and that wait themselves.
func (g *waitGraph) links(n *waitNode) []link {
	if n.links != nil {
		return n.links
	}
	all := []link{}
	for _, own := range n.entries {
		for _, blocker := range own.Ahead {
			if ahead := g.byKey[string(blocker.Key)]; ahead != n && ahead.waits() {
				all = append(all, link{own, blocker, ahead})
			}
			for _, holder := range g.holder[string(blocker.Key)] {
				if holder.waits() {
					all = append(all, link{own, blocker, holder})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b link) int { return a.to.compare(b.to) })
	n.links = all
	return all
}

// stuck are the nodes that can be in a cycle: what is left when those for whom nobody waits,
// and those that wait for nobody, are taken away, and then again. Most often that is
// nothing, and in a long line it saves a search from each place of it.
func (g *waitGraph) stuck() map[*waitNode]bool {
	left := make(map[*waitNode]bool, len(g.nodes))
	waits, waited := make(map[*waitNode]int), make(map[*waitNode]int)
	back := make(map[*waitNode][]*waitNode)
	for _, n := range g.nodes {
		left[n] = true
		for _, l := range g.links(n) {
			waits[n]++
			waited[l.to]++
			back[l.to] = append(back[l.to], n)
		}
	}
	for todo := slices.Clone(g.nodes); len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !left[n] || waits[n] > 0 && waited[n] > 0 {
			continue
		}
		delete(left, n)
		for _, l := range g.links(n) {
			waited[l.to]--
			todo = append(todo, l.to)
		}
		for _, before := range back[n] {
			waits[before]--
			todo = append(todo, before)
		}
	}
	return left
}

// cycle is the shortest way from a node back to itself over nodes that may be used; nil if
// there is none.
func (g *waitGraph) cycle(from *waitNode, usable func(*waitNode) bool) Deadlock {
	type visit struct {
		link
		before *visit
	}
	reached := make(map[*waitNode]bool)
	for todo := []*visit{{link: link{to: from}}}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		for _, l := range g.links(at.to) {
			v := &visit{l, at}
			if l.to == from {
				var d Deadlock
				for ; v.before != nil; v = v.before {
					d = append(d, DeadlockEdge{Waiter: contenderEntry(v.own), For: contenderEntry(v.blocker)})
				}
				slices.Reverse(d)
				return d
			}
			if !reached[l.to] && usable(l.to) {
				reached[l.to] = true
				todo = append(todo, v)
			}
		}
	}
	return nil
}

// id is the same for one cycle, wherever it is taken to begin.
func (d Deadlock) id() string {
	keys := make([]string, len(d))
	for i, w := range d {
		keys[i] = w.Waiter.Key
	}
	slices.Sort(keys)
	return strings.Join(keys, "\x00")
}
