package etcdlock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/waitgraph"
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

// String returns the cycle in one line, waiter by waiter.
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
// waits among them. For each waiter in a cycle that holds something meanwhile, it returns the
// shortest cycle that includes the waiter. Entries in the queue between the two belong to the
// cycle. It blocks until etcd has answered, or ctx or the session ends.
//
// The entry of a waiter lists what the context of its call carries, see [WithDeadlockDetection].
// Deadlocks cannot see waits that are not recorded in etcd: those of other libraries, calls whose
// context does not carry what the caller holds, candidates of an election, and a wait for another
// goroutine of the same session unless it has WithDeadlockDetection.
//
// Errors:
//   - the error of ctx
//   - [ErrSessionClosed]
//   - what etcd refuses
func (s *Session) Deadlocks(ctx context.Context, prefix string) ([]Deadlock, error) {
	if err := s.usable("-"); err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), err)
	}
	ctx, stop := s.engine.Within(ctx)
	defer stop()
	kvs, err := queue.Snapshot(ctx, s.etcd.KV, prefix)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), err)
	}
	w := newWaits(kvs)
	var found []Deadlock
	for _, c := range w.graph.Cycles() {
		found = append(found, w.deadlock(c))
	}
	return found, nil
}

// checkCycle fails with a DeadlockError if entry e of w closes a cycle of waits and is the
// youngest in this cycle.
func (m *manager) checkCycle(ctx context.Context, w *waiter, e *queue.Entry) error {
	if w.cycle == nil || w.carried == nil {
		return nil
	}
	kvs, err := queue.Snapshot(ctx, m.kv, *w.cycle)
	if err != nil {
		return err
	}
	all := newWaits(kvs)
	cycle := all.graph.CycleOfVictim(e.Key, e.CreateRevision)
	if cycle == nil {
		return nil // an entry that has gone is noticed by its wait
	}
	return &DeadlockError{Cycle: all.deadlock(cycle)}
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

// deadlock is a cycle with its entries.
func (w waits) deadlock(c waitgraph.Cycle) Deadlock {
	d := make(Deadlock, 0, len(c))
	for _, e := range c {
		d = append(d, DeadlockEdge{Waiter: contenderEntry(w.byKey[e.Waiter]), For: contenderEntry(w.byKey[e.For])})
	}
	return d
}
