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
// (wait), and of the head of the queue (heads).
package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Queue is the queue of one name, as one client sees it. Enter, TryEnter, Await, Stay, Rest and Close
// share a cache, and are called by one goroutine at a time. The other methods are safe for concurrent
// use.
type Queue struct {
	*shared
	name         string
	from, end    string
	cache        *rangeCache  // nil if there is none
	theirs       *follower    // on the predecessor of the last wait in a long queue; nil if there is none
	warned       int64        // CreateRevision of the entry in the last warning
	size         atomic.Int64 // number of entries when the queue was last read
	emptied      time.Time    // when the queue was last seen empty; zero if another entry was seen since, see optimistic.go
	mispredicted bool         // true if the queue was assumed to be empty, and is not
	named        bool         // true if a successor key named a candidate when they were last read, see MayLead
	stream       atomic.Int32 // number of the stream of watches by etcd's client; it grows when a stream hangs
	timeline     int          // of the fields from cache to named, see renew
	memo         *memo        // nil before the first use, and while our key is guarded
}

// memo is what an entry that comes soon after another one need not make again.
type memo struct {
	limit int64 // of peek
	peek  clientv3.Op
	of    Want // of key
	key   string
}

// renew drops what the queue knows from an earlier timeline. It is called before an entry is
// written: an entry ends with its lease, and the lease with its timeline.
func (q *Queue) renew() {
	now := q.tracker.Number()
	if now == q.timeline {
		return
	}
	q.Close()
	q.timeline, q.warned, q.emptied, q.mispredicted = now, 0, time.Time{}, false
	q.size.Store(0)
}

// Entry is our key in the queue.
type Entry struct {
	Key            string
	Lease          clientv3.LeaseID
	CreateRevision int64

	modRevision atomic.Int64 // of the last write of the key that is known
	touched     atomic.Bool  // true if another client has written the key, see successor

	// first is true if the transaction that wrote the key saw no older entry. Then none can come.
	first bool
	// ahead is the youngest of the older entries, and older is their number, if the transaction that
	// wrote the key saw all of them.
	ahead *mvccpb.KeyValue
	older int
	count int64 // of the older entries, also if only a part of them was read; 0 if none was

	rule  *Rule    // nil for an exclusive entry
	parts []*Entry // of an entry in several queues, one for each; nil for an entry in one

	value     string                   // with which the key was written
	rewritten atomic.Pointer[string]   // the value since then; nil if it is the same
	obstacle  atomic.Pointer[Obstacle] // the entry that was last seen to block this one; nil for none

	candidate bool
	keeps     bool
	adopted   bool // true if the key existed before it was to be written
}

// Want is what an entry is to be.
type Want struct {
	Lease clientv3.LeaseID
	Slot  wire.Slot // which of the keys that the lease can have in the queue
	Value string    // of the key
	Rule  *Rule     // nil for an exclusive entry

	Candidate bool // true for a candidate of an election, see prefer.go
	Keeps     bool // true if the key may be kept until another entry comes, see Stay
}

// First reports whether no older entry was there when the key was written.
func (e *Entry) First() bool { return e.first }

// Ahead returns how many older entries were there when the key was written, as far as that is known.
func (e *Entry) Ahead() (n int) {
	for _, part := range e.Parts() {
		n = max(n, int(part.count))
	}
	return n
}

// Adopted reports whether the key existed before it was to be written.
func (e *Entry) Adopted() bool { return e.adopted }

func newEntry(key string, w Want, createRevision int64) *Entry {
	e := &Entry{Key: key, Lease: w.Lease, CreateRevision: createRevision, rule: w.Rule, value: w.Value, candidate: w.Candidate, keeps: w.Keeps}
	e.modRevision.Store(createRevision)
	return e
}

// wrote notes the revision of a write of the key.
func (e *Entry) wrote(rev int64) {
	for {
		last := e.modRevision.Load()
		if rev <= last || e.modRevision.CompareAndSwap(last, rev) {
			return
		}
	}
}

// Guard is a comparison that holds while this entry stands. A later entry of the same session has
// the same key, but another CreateRevision.
func (e *Entry) Guard() clientv3.Cmp {
	return created(e.Key, e.CreateRevision)
}

// Rewrite gives our key another value. Its place in the queue stays. The error is ErrEvicted if the
// entry does not stand.
//
// Each try is guarded by the last write that is known. So a try that arrives after its caller gave up
// does not undo a later write.
func (q *Queue) Rewrite(ctx context.Context, e *Entry, value string) error {
	return q.RewriteFor(ctx, e, Want{Value: value})
}

// RewriteFor is Rewrite for a value that may depend on a key beside the queue.
func (q *Queue) RewriteFor(ctx context.Context, e *Entry, w Want) error {
	side := w.Rule.beside()
	tried := false
	_, err := q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		for {
			last := e.modRevision.Load()
			resp, err := q.writer.Commit(ctx, etcdkv.Txn{
				Name: q.name,
				If:   append(side.asKnown(), e.Guard(), clientv3.Compare(clientv3.ModRevision(e.Key), "=", last)),
				Then: []clientv3.Op{clientv3.OpPut(e.Key, w.Value, clientv3.WithLease(e.Lease))},
				Else: append([]clientv3.Op{clientv3.OpGet(e.Key)}, side.read()...),
			})
			if err != nil {
				tried = true
				return err
			}
			if resp.Succeeded {
				e.wrote(resp.Header.Revision)
				e.rewritten.Store(&w.Value)
				return nil
			}
			own := resp.Responses[0].GetResponseRange().Kvs
			if !e.standsIn(only(own)) {
				return lockerr.ErrEvicted
			}
			e.wrote(own[0].ModRevision)
			e.touched.Store(true)
			if tried && string(own[0].Value) == w.Value {
				return nil // by an earlier try without an answer
			}
			w.heed(resp)
		}
	})
	return err
}

// Leave deletes our key. It blocks until etcd has confirmed that the key is gone, or ctx ends. The
// error is ErrEvicted if another client had deleted the key. tried is true if an earlier try of ours
// may have done so.
func (q *Queue) Leave(ctx context.Context, e *Entry, tried bool) error {
	return q.leaveBy(ctx, e, tried, func(ctx context.Context) (bool, error) { return q.LeaveOnce(ctx, e) })
}

// leaveBy is Leave by a function that is one try of it.
func (s *shared) leaveBy(ctx context.Context, e *Entry, tried bool, once func(context.Context) (deleted bool, err error)) error {
	deleted := false
	unanswered, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		deleted, err = once(ctx)
		return err
	})
	if err == nil && !deleted && !unanswered && !tried {
		return lockerr.ErrEvicted
	}
	return err
}

// LeaveOnce is one try of Leave. The caller bounds ctx. deleted is false, without an error, if the key
// was gone before.
func (q *Queue) LeaveOnce(ctx context.Context, e *Entry) (deleted bool, err error) {
	if e.mayBeNamed() {
		return q.leaveNamed(ctx, e)
	}
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, Compact: &etcdkv.Compact{
		From: e.Key, Created: e.CreateRevision, Key: e.Key, Delete: true,
	}})
	return err == nil && resp.Succeeded, err
}

// List reads the whole queue at one revision, oldest entry first. It blocks until etcd has answered
// or ctx ends.
func (q *Queue) List(ctx context.Context) (kvs []*mvccpb.KeyValue, rev int64, err error) {
	resp, err := ask(ctx, q.shared, 0, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return q.kv.Get(ctx, q.from, clientv3.WithRange(q.end), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	})
	if err != nil {
		return nil, 0, err
	}
	return resp.Kvs, resp.Header.Revision, nil
}

// AwaitList is List without the revision.
func (q *Queue) AwaitList(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	kvs, _, err := q.List(ctx)
	return kvs, err
}

// nested returns an error with both names if a key in our range belongs to a name inside ours, and
// otherwise in any other case.
func (q *Queue) nested(kv *mvccpb.KeyValue, otherwise error) error {
	if inner, ok := wire.Nested(q.name, string(kv.Key)); ok {
		return fmt.Errorf("%w: %s is in use (key %s) and is inside %s: rename one of the two",
			lockerr.ErrNestedName, wire.Quote(inner), wire.Quote(string(kv.Key)), wire.Quote(q.name))
	}
	return otherwise
}

// only returns the key that a read of at most one key has found, or nil.
func only(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}
