// Package deadlock finds cycles of waits in the entries that stand in etcd. What an entry waits for
// follows from its queue, and what its owner holds is in its value.
package deadlock

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/waitgraph"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Cycle is a cycle of waits. The waiter of each wait waits for an entry of the waiter of the next
// one.
type Cycle []Wait

// Wait is an entry that waits, and the entry that keeps it out.
type Wait struct{ Waiter, For *queue.Contender }

// Cycles finds the cycles of waits among the entries of some keys, which were read at one revision.
// For each waiter in a cycle that holds something meanwhile, it returns the shortest cycle that
// includes the waiter.
func Cycles(kvs []*mvccpb.KeyValue) []Cycle {
	w := newWaits(kvs)
	var found []Cycle
	for _, c := range w.graph.Cycles() {
		found = append(found, w.cycle(c))
	}
	return found
}

// CycleOf returns the cycle of waits under a prefix that an entry closes, if the entry is the youngest
// in it. It returns nil otherwise, also if the entry is gone.
func CycleOf(ctx context.Context, kv clientv3.KV, prefix string, e *queue.Entry) (Cycle, error) {
	kvs, err := queue.Snapshot(ctx, kv, prefix)
	if err != nil {
		return nil, err
	}
	all := newWaits(kvs)
	cycle := all.graph.CycleOfVictim(e.Key, e.CreateRevision)
	if cycle == nil {
		return nil, nil
	}
	return all.cycle(cycle), nil
}

// waits is the wait graph of some keys, and the entries that its edges name.
type waits struct {
	graph *waitgraph.Graph
	byKey map[string]*queue.Contender
}

// newWaits reads from keys in their order what each entry waits for and what its owner holds.
func newWaits(kvs []*mvccpb.KeyValue) waits {
	queues := make(map[string][]*mvccpb.KeyValue)
	for _, kv := range kvs {
		if name, ok := wire.NameOf(string(kv.Key)); ok {
			queues[name] = append(queues[name], kv)
		}
	}
	w := waits{byKey: make(map[string]*queue.Contender, len(kvs))}
	entries := make([]waitgraph.Entry, 0, len(kvs))
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		for _, c := range queue.Contenders(name, queues[name]) {
			w.byKey[string(c.Key)] = c
			entries = append(entries, waitEntry(c))
		}
	}
	w.graph = waitgraph.New(entries)
	return w
}

// waitEntry is what an entry says of its wait.
func waitEntry(c *queue.Contender) waitgraph.Entry {
	e := waitgraph.Entry{Key: string(c.Key), Order: c.CreateRevision, Holds: c.Want.Holds}
	if len(c.Want.All) > 0 {
		e.Set = fmt.Sprintf("%d %d %q", c.Lease, c.CreateRevision, c.Want.All)
	}
	for _, ahead := range c.Ahead {
		e.Ahead = append(e.Ahead, string(ahead.Key))
	}
	return e
}

// cycle is a cycle of the graph with its entries.
func (w waits) cycle(c waitgraph.Cycle) Cycle {
	all := make(Cycle, 0, len(c))
	for _, e := range c {
		all = append(all, Wait{Waiter: w.byKey[e.Waiter], For: w.byKey[e.For]})
	}
	return all
}
