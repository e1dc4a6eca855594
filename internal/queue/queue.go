// Package queue is the line in front of a lock: keys under a name, one for each
// contender, ordered by CreateRevision. Every primitive is this queue with a rule
// for when an entry may go in: "when no older entry is left", unless it has another one
// (rule.go). A Set is several queues at once.
//
//	Enter     one transaction writes our key and reads who is older
//	Await     watches the youngest older entry, and looks again when it goes
//	Stay      watches our own key while we hold
//	Leave     deletes our key, guarded by its CreateRevision
//
// Whatever etcd leaves open (a request without an answer, a watch that ended) is
// asked again until it is known or the context ends; the place in the line is
// never given up for it. The context is the lease's, not a caller's: with the
// lease the key goes.
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

// Queue is one name, seen through one client. Enter, TryEnter, Await, Stay, Rest and
// Close are for one goroutine, as they share a view; the others for any.
type Queue struct {
	*shared
	name      string
	from, end string
	cache     *rangeCache  // nil if there is none
	theirs    *follower    // on the predecessor of the last wait in a long queue; nil if there is none
	warned    int64        // of which entry, by CreateRevision
	size      atomic.Int64 // how many entries the queue had when it was last looked at
	emptied   time.Time    // when it was last seen without anybody, as nobody else was since; see guess.go
	surprised bool         // it was guessed to be empty, and is not
	timeline  int          // that of all above, see renew
	named     bool         // a successor key named a candidate when they were last read; see MayLead
	peeks     struct {     // what was read then, by the write that entered
		limit int64
		op    clientv3.Op
	}
	last struct { // that key was asked for
		of  Want
		key string
	}
	stream atomic.Int32 // the watches' stream to etcd: another one when the last one hangs
}

// renew drops what the queue knows from an earlier timeline. It is called before an entry is
// written: an entry ends with its lease, and the lease with its timeline.
func (q *Queue) renew() {
	now := q.tracker.Number()
	if now == q.timeline {
		return
	}
	q.Close()
	q.timeline, q.warned, q.emptied, q.surprised = now, 0, time.Time{}, false
	q.size.Store(0)
}

// Entry is our key in the queue.
type Entry struct {
	Key            string
	Lease          clientv3.LeaseID
	CreateRevision int64

	// modRevision is that of the last write of the key that we know of.
	modRevision atomic.Int64
	touched     atomic.Bool // another client has written the key, see successor

	// first says that nobody older was there at CreateRevision, and so never will
	// be: the transaction that wrote the key saw it.
	first bool
	// ahead is the youngest older entry when the write saw all of them, and older is how
	// many they are.
	ahead *mvccpb.KeyValue
	older int

	rule  *Rule    // nil: the plain one
	parts []*Entry // of an entry in several queues, one for each

	value     string                   // that the key was written with
	rewritten atomic.Pointer[string]   // the value since then; nil: the same
	obstacle  atomic.Pointer[Obstacle] // that it was last seen to wait for; nil for none

	candidate bool
	keeps     bool
	adopted   bool // the key was there already
}

// Want is what somebody wants to enter with.
type Want struct {
	Lease clientv3.LeaseID
	Slot  wire.Slot // which of the keys that the lease can have in the queue
	Value string    // of the key
	Rule  *Rule     // nil: the plain one

	Candidate bool // of an election, see prefer.go
	Keeps     bool // it may be kept for as long as nobody else comes, see Stay
}

// First says that nobody older was there when the key was written.
func (e *Entry) First() bool { return e.first }

// Adopted says that the key was there already when it was to be written.
func (e *Entry) Adopted() bool { return e.adopted }

func newEntry(key string, w Want, createRevision int64) *Entry {
	e := &Entry{Key: key, Lease: w.Lease, CreateRevision: createRevision, rule: w.Rule, value: w.Value, candidate: w.Candidate, keeps: w.Keeps}
	e.modRevision.Store(createRevision)
	return e
}

// wrote takes note of a write of the key.
func (e *Entry) wrote(rev int64) {
	for {
		last := e.modRevision.Load()
		if rev <= last || e.modRevision.CompareAndSwap(last, rev) {
			return
		}
	}
}

// Guard is true in a transaction only while this very entry stands: a later one
// of the same session has the same key, but another CreateRevision.
func (e *Entry) Guard() clientv3.Cmp {
	return created(e.Key, e.CreateRevision)
}

// Rewrite gives our key another value. Its place in the line stays. ErrEvicted when
// the entry is not there any more.
//
// Each try is guarded by the last write that we know of, so that one which arrives
// late, after its caller gave up, does not undo a later one.
func (q *Queue) Rewrite(ctx context.Context, e *Entry, value string) error {
	return q.RewriteFor(ctx, e, Want{Value: value})
}

// RewriteFor is Rewrite by what is wanted, whose value may depend on a key beside the queue.
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
				return nil // an earlier try of ours, whose answer was lost
			}
			w.heed(resp)
		}
	})
	return err
}

// Leave deletes our key and returns when etcd confirmed that it is gone, or ctx
// ended. ErrEvicted when somebody else had deleted it before us; tried says that it may
// have been an earlier try of ours.
func (q *Queue) Leave(ctx context.Context, e *Entry, tried bool) error {
	deleted := false
	unanswered, err := q.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		deleted, err = q.delete(ctx, e)
		return err
	})
	if err == nil && !deleted && !unanswered && !tried {
		return lockerr.ErrEvicted
	}
	return err
}

// LeaveOnce is one try of Leave, for which ctx is to be bounded. deleted is false without an
// error when the key was gone already.
func (q *Queue) LeaveOnce(ctx context.Context, e *Entry) (deleted bool, err error) {
	return q.delete(ctx, e)
}

func (q *Queue) delete(ctx context.Context, e *Entry) (deleted bool, err error) {
	if e.mayBeNamed() {
		return q.leaveNamed(ctx, e)
	}
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, Compact: &etcdkv.Compact{
		From: e.Key, Created: e.CreateRevision, Key: e.Key, Delete: true,
	}})
	return err == nil && resp.Succeeded, err
}

// List reads the whole queue at one revision, oldest first. It tries until etcd has answered or ctx
// ends.
func (q *Queue) List(ctx context.Context) (kvs []*mvccpb.KeyValue, rev int64, err error) {
	_, err = q.retry(ctx, 0, func(ctx context.Context) (err error) {
		kvs, rev, err = q.listOnce(ctx)
		return err
	})
	return kvs, rev, err
}

// listOnce is one try of List.
func (q *Queue) listOnce(ctx context.Context) ([]*mvccpb.KeyValue, int64, error) {
	resp, err := q.kv.Get(ctx, q.from, clientv3.WithRange(q.end),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
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

// nested returns an error naming both names if a key in our range belongs to a
// name inside ours, else otherwise.
func (q *Queue) nested(kv *mvccpb.KeyValue, otherwise error) error {
	if inner, ok := wire.Nested(q.name, string(kv.Key)); ok {
		return fmt.Errorf("%w: %s is in use (key %s) and lies inside %s: choose names of which none is the other's beginning up to a slash",
			lockerr.ErrNestedName, wire.Quote(inner), wire.Quote(string(kv.Key)), wire.Quote(q.name))
	}
	return otherwise
}

// only is the key that a read of at most one key has found; nil for none.
func only(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}
