// Package queue is the queue of a lock in etcd: keys under a name, one for each contender, ordered
// by CreateRevision. Every primitive is this queue with a rule that says when an entry is admitted.
// Without a rule an entry is admitted when no older entry is left. A Set is several queues at once.
//
//	Enter     one transaction writes our key and reads the older entries
//	Await     watches the queue or the predecessor until our entry is admitted
//	Stay      watches our own key while we hold
//	Leave     deletes our key, guarded by its CreateRevision
//
// A request without an answer is sent again, and a watch that ended is opened again, until the
// outcome is known or the context ends. Our place in the queue is never given up for that. The
// context is that of the lease, because the key is deleted with the lease.
//
// All watches follow the rules of a follower: of a range of keys (rangeCache), of the predecessor
// (wait), and of the head of the queue (heads). These know the keys of a queue (line) and entries, but
// not the Queue. The Queue has them, and what it keeps of them from one wait to the next (kept).
package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Queue is the queue of one name, as one client sees it. Enter, TryEnter, Await, Stay, Rest and Close
// share what is kept, and are called by one goroutine at a time. The other methods are safe for concurrent
// use.
type Queue struct {
	line
	kept
	length
	turns
	waits    record // how they ended
	warned   int64  // CreateRevision of the entry in the last warning
	named    bool   // true if a successor key named a candidate when they were last read, see MayLead
	timeline int    // of what the queue knows, see renew
	memo     *memo  // nil before the first use, and while our key is guarded
}

// renew drops what the queue knows from an earlier timeline. It is called before an entry is
// written: an entry ends with its lease, and the lease with its timeline.
func (q *Queue) renew() {
	now := q.tracker.Number()
	if now == q.timeline {
		return
	}
	q.Close()
	q.forget()
	q.timeline, q.warned, q.turns, q.waits = now, 0, turns{}, record{}
}

// key returns our key.
func (q *Queue) key(w Want) string { return q.remembers().keyOf(q.name, w) }

func (q *Queue) remembers() *memo {
	if q.memo == nil {
		q.memo = &memo{}
	}
	return q.memo
}

// AwaitList is List without the revision.
func (q *Queue) AwaitList(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	kvs, _, err := q.List(ctx)
	return kvs, err
}
