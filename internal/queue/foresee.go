package queue

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Foresee reads the holder, for the error of a wait that is about to end: an entry that waits for a message only
// has read no entry ahead. It does nothing for any other entry. It blocks until etcd has answered or ctx ends.
// It is safe for concurrent use.
func (s *Queues) Foresee(ctx context.Context, e *Entry) {
	known := e.obstacle.Load()
	if !e.marked || known != nil && !known.foreseen {
		return
	}
	l := s.line(e.name())
	// The values of all entries would come from disk, so the oldest one is read again.
	resp, err := l.kv.Get(ctx, l.from, clientv3.WithRange(l.end), clientv3.WithKeysOnly(), clientv3.WithSerializable(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(moreBeside))
	if err != nil {
		return
	}
	first := only(entriesOf(l.from, resp.Kvs))
	if first == nil || e.standsIn(first) {
		return
	}
	holder := Obstacle{KV: first, Holds: true, foreseen: true}
	whole, err := l.kv.Get(ctx, string(first.Key), clientv3.WithSerializable())
	if err == nil && same(only(whole.Kvs), first) {
		holder.KV, holder.Whole = whole.Kvs[0], true
	}
	e.obstacle.CompareAndSwap(known, &holder)
}
