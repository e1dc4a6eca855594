package etcdlock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Deadlock is a cycle of waits: each of them is for something that the next one holds or has
// lined up for, and the last one's is for what the first one has.
type Deadlock []Wait

// Wait is one link of a [Deadlock].
type Wait struct {
	Waiter Entry // who waits; what he holds meanwhile is in its Holds
	For    Entry // in whose way he is not let in: the next one's, by a key that it holds or waits with
}

// String tells it in one line, waiter by waiter.
func (d Deadlock) String() string {
	var b strings.Builder
	for i, w := range d {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, pid %d) waits with %q for %q", w.Waiter.Owner, w.Waiter.Host, w.Waiter.PID, w.Waiter.Key, w.For.Key)
	}
	return b.String()
}

// Deadlocks reads all that holds and waits under a prefix, at one revision, and finds the
// cycles of waits in it: for everyone who is in one, the shortest one that he is in.
//
// What a waiter holds is known from the context of his call, see [WithDeadlockDetection], and
// stands in his entry. Not seen is who does not tell: users of other libraries, a call with a
// context that does not carry what the caller holds, candidates of an election, and who waits
// for another goroutine of his own session, unless with WithDeadlockDetection. It blocks
// until etcd has answered or ctx ends.
func Deadlocks(ctx context.Context, s *Session, prefix string) ([]Deadlock, error) {
	if s == nil || s.Err() != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %q: %w", prefix, s.usable("-"))
	}
	kvs, err := queue.Snapshot(ctx, s.client.KV, prefix)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %q: %w", prefix, err)
	}
	g := newWaitGraph(kvs)
	var found []Deadlock
	seen := make(map[string]bool)
	for _, n := range g.nodes {
		cycle := g.cycle(n, func(*waitNode) bool { return true })
		if cycle != nil && !seen[cycle.id()] {
			seen[cycle.id()] = true
			found = append(found, cycle)
		}
	}
	return found, nil
}

// checkCycle fails with ErrDeadlock if somebody waits for w, directly or not, for whom w
// would wait with its entry e; and w came last of all in that cycle, so that only one of them
// is told.
func (s *Session) checkCycle(ctx context.Context, w *waiter, e *queue.Entry) error {
	if w.cycle == nil || w.carried == nil {
		return nil
	}
	kvs, err := queue.Snapshot(ctx, s.client.KV, *w.cycle)
	if err != nil {
		return err
	}
	g := newWaitGraph(kvs)
	own := g.byKey[e.Key]
	if own == nil || own.revision() != e.CreateRevision {
		return nil // not under the prefix, or gone; the wait tells
	}
	cycle := g.cycle(own, func(n *waitNode) bool { return n.revision() <= e.CreateRevision })
	if cycle == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", ErrDeadlock, cycle)
}

// waitGraph is who waits for whom.
type waitGraph struct {
	nodes  []*waitNode
	byKey  map[string]*waitNode
	holder map[string][]*waitNode // by key: who waits, and holds that meanwhile
}

// waitNode is one waiter or holder: an entry, or those that were entered at once.
type waitNode struct {
	entries  []*mvccpb.KeyValue
	blockers map[*mvccpb.KeyValue]*mvccpb.KeyValue // who is in the way, and of which of the own entries
}

func (n *waitNode) revision() int64 { return n.entries[0].CreateRevision }

// link is that a node waits, with one of its entries, for blocker, and so for to.
type link struct {
	own, blocker *mvccpb.KeyValue
	to           *waitNode
}

func newWaitGraph(kvs []*mvccpb.KeyValue) *waitGraph {
	g := &waitGraph{byKey: make(map[string]*waitNode), holder: make(map[string][]*waitNode)}
	queues := make(map[string][]*mvccpb.KeyValue)
	sets := make(map[string]*waitNode)
	for _, kv := range kvs {
		name, ok := wire.NameOf(string(kv.Key))
		if !ok {
			continue
		}
		queues[name] = append(queues[name], kv)
		h := wire.Wants(kv.Value)
		n := &waitNode{blockers: make(map[*mvccpb.KeyValue]*mvccpb.KeyValue)}
		if len(h.All) > 0 {
			id := fmt.Sprint(kv.Lease, kv.CreateRevision, h.All)
			if sets[id] == nil {
				sets[id] = n
			}
			n = sets[id]
		}
		if n.entries = append(n.entries, kv); len(n.entries) == 1 {
			g.nodes = append(g.nodes, n)
		}
		g.byKey[string(kv.Key)] = n
		for _, key := range h.Holds {
			g.holder[key] = append(g.holder[key], n)
		}
	}
	for _, all := range queues {
		for _, kv := range all {
			for _, b := range queue.Blockers(kv, all) {
				g.byKey[string(kv.Key)].blockers[b] = kv
			}
		}
	}
	slices.SortFunc(g.nodes, func(a, b *waitNode) int { return cmp.Compare(a.revision(), b.revision()) })
	return g
}

// links are from a node to those that it waits for and that wait themselves.
func (g *waitGraph) links(n *waitNode) []link {
	var all []link
	for blocker, own := range n.blockers {
		if ahead := g.byKey[string(blocker.Key)]; ahead != n && len(ahead.blockers) > 0 {
			all = append(all, link{own, blocker, ahead})
		}
		for _, holder := range g.holder[string(blocker.Key)] {
			if len(holder.blockers) > 0 {
				all = append(all, link{own, blocker, holder})
			}
		}
	}
	slices.SortFunc(all, func(a, b link) int { return cmp.Compare(a.to.revision(), b.to.revision()) })
	return all
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
					d = append(d, Wait{Waiter: newEntry(v.own), For: newEntry(v.blocker)})
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
