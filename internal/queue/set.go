package queue

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Set is several queues that are entered all at once, by one transaction and so at one
// revision, and left all at once. Of two sets that share some queues, one is so behind
// the other in all of these: they cannot wait for each other.
//
// That holds only for keys that this transaction has written. A set never takes a key
// over that its session has already, say for having kept it: that key has an order of
// its own. So each set has keys that no one else uses, by their slots.
//
// It is used as a Queue is, for which see what its methods do.
type Set struct {
	*shared
	queues []*Queue
	slots  []wire.Slot
}

// MostTogether is how many queues a set may have: the server's default limit is 128
// operations in a transaction, and entering takes two for each.
const MostTogether = 64

// Use changes the keys of the set: those in these slots are an entry of a set already. It must
// not have entered before.
func (s *Set) Use(slots []wire.Slot) { s.slots = slots }

// eachKey calls f with every queue, and the key in it.
func (s *Set) eachKey(lease clientv3.LeaseID, f func(i int, q *Queue, key string)) {
	for i, q := range s.queues {
		f(i, q, wire.SlotKey(q.name, lease, s.slots[i]))
	}
}

// Enter puts a key into each of the queues, in one transaction.
func (s *Set) Enter(ctx context.Context, w Want) (*Entry, bool, error) {
	var absent []clientv3.Cmp
	var then, othw []clientv3.Op
	s.eachKey(w.Lease, func(_ int, q *Queue, key string) {
		absent = append(absent, created(key, 0))
		then = append(then, clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(peek), clientv3.WithKeysOnly()), clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease)))
		othw = append(othw, clientv3.OpGet(key))
	})
	return s.enter(ctx, w, absent, then, othw, func(resp *clientv3.TxnResponse, part int) (older []*mvccpb.KeyValue) {
		return resp.Responses[2*part].GetResponseRange().Kvs
	})
}

// TryEnter puts a key into each of the queues only if all of them are empty.
func (s *Set) TryEnter(ctx context.Context, w Want) (*Entry, bool, error) {
	var empty []clientv3.Cmp
	var then, othw []clientv3.Op
	s.eachKey(w.Lease, func(_ int, q *Queue, key string) {
		empty = append(empty, q.nobody())
		then = append(then, clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease)))
		othw = append(othw, clientv3.OpGet(key))
	})
	s.eachKey(w.Lease, func(_ int, q *Queue, _ string) {
		othw = append(othw, clientv3.OpGet(q.from, q.tried(nil)...))
	})
	return s.enter(ctx, w, empty, then, othw, func(*clientv3.TxnResponse, int) []*mvccpb.KeyValue { return nil })
}

// enter sends an entering transaction. olderThan reads from its answer who was in a
// queue before.
func (s *Set) enter(ctx context.Context, w Want, cmps []clientv3.Cmp, then, othw []clientv3.Op,
	olderThan func(*clientv3.TxnResponse, int) []*mvccpb.KeyValue) (e *Entry, unsure bool, err error) {
	adopted := false
	unsure, err = s.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: s.queues[0].name, If: cmps, Then: then, Else: othw, Alone: true})
		if err != nil {
			return err
		}
		if !resp.Succeeded {
			adopted = true
			e, err = s.adopt(ctx, w, resp)
			return err
		}
		first := true
		e = s.whole(w, func(i int, key string) *Entry {
			part := newEntry(key, Want{Lease: w.Lease, Value: w.Value}, resp.Header.Revision)
			older := olderThan(resp, i)
			if len(older) < peek {
				part.ahead, _ = part.blocker(nil, older) // it is exclusive, which is never refused
				part.older = len(older)
			}
			part.first = len(older) == 0
			first = first && part.first
			return part
		})
		e.first = first
		return nil
	})
	if err == nil && adopted {
		err = s.Rewrite(ctx, e, w.Value) // as a Queue does, for the value and the token
	}
	return e, unsure, err
}

// adopt makes an entry of what an earlier try of ours has written, whose answer was
// lost, or another process on this lease. Keys that were not written together are no
// entry of a set: those of two revisions could be in a circle with another set's. They
// are deleted, and errAgain says to enter anew.
func (s *Set) adopt(ctx context.Context, w Want, resp *clientv3.TxnResponse) (*Entry, error) {
	own := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().Kvs }
	found := &Entry{Lease: w.Lease}
	together := true
	s.eachKey(w.Lease, func(i int, _ *Queue, key string) {
		if kvs := own(i); len(kvs) > 0 {
			found.parts = append(found.parts, adopt(key, Want{Lease: w.Lease}, kvs))
		}
	})
	for _, part := range found.parts {
		together = together && part.CreateRevision == found.parts[0].CreateRevision
	}
	switch n := len(s.queues); {
	case len(found.parts) == n && together:
		return s.whole(w, func(i int, _ string) *Entry { return found.parts[i] }), nil
	case len(found.parts) > 0:
		if _, err := s.delete(ctx, found); err != nil {
			return nil, err
		}
		return nil, errAgain
	default: // only a TryEnter comes here
		for i, q := range s.queues {
			if others := resp.Responses[n+i].GetResponseRange(); len(others.Kvs) > 0 {
				return nil, q.refusedBy(&Entry{}, nil, others.Kvs, !others.More)
			}
		}
		return nil, ErrTaken
	}
}

// whole makes the entry of its parts.
func (s *Set) whole(w Want, part func(i int, key string) *Entry) *Entry {
	e := &Entry{Lease: w.Lease}
	for i, q := range s.queues {
		e.parts = append(e.parts, part(i, wire.SlotKey(q.name, w.Lease, s.slots[i])))
	}
	e.Key, e.CreateRevision = e.parts[0].Key, e.parts[0].CreateRevision
	e.modRevision.Store(e.CreateRevision)
	return e
}

// Parts are the entries in the single queues, in the order of the names; that one alone
// for an entry in one queue.
func (e *Entry) Parts() []*Entry {
	if e.parts == nil {
		return []*Entry{e}
	}
	return e.parts
}

// Await waits in one queue after the other: in whichever nobody older was left, nobody
// older will be again. What has to be true at one revision is then that all of our keys
// stand, and that is looked at in the end.
func (s *Set) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	for i, q := range s.queues {
		_, err := q.Await(ctx, e.parts[i])
		q.Close()
		if err != nil {
			return 0, err
		}
		e.parts[i].obstacle.Store(nil)
	}
	return s.stand(ctx, e)
}

// Granted tells whether the entry may go in right now.
func (s *Set) Granted(ctx context.Context, e *Entry) (granted bool, rev int64, err error) {
	if e.first {
		return true, e.CreateRevision, nil
	}
	for i, q := range s.queues {
		granted, _, err := q.Granted(ctx, e.parts[i])
		if err != nil || !granted {
			return false, 0, err
		}
	}
	rev, err = s.stand(ctx, e)
	return err == nil, rev, err
}

// stand reads at one revision that all our keys stand; ErrEvicted if not.
func (s *Set) stand(ctx context.Context, e *Entry) (rev int64, err error) {
	var reads []clientv3.Op
	for _, part := range e.parts {
		reads = append(reads, clientv3.OpGet(part.Key, clientv3.WithKeysOnly()))
	}
	_, err = s.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := s.kv.Txn(ctx).Then(reads...).Commit()
		if err != nil {
			return err
		}
		for i, part := range e.parts {
			if !part.standsIn(only(resp.Responses[i].GetResponseRange().Kvs)) {
				return lockerr.ErrEvicted
			}
		}
		rev = resp.Header.Revision
		return nil
	})
	return rev, err
}

// Stay blocks until one of our keys is gone, or ctx ends. A set is never kept, so that
// nobody needs to hear of company.
func (s *Set) Stay(ctx context.Context, e *Entry, settle time.Duration, _ <-chan struct{}, _ func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stays sync.WaitGroup
	for i, q := range s.queues {
		stays.Go(func() { cancel(q.Stay(ctx, e.parts[i], settle, nil, func() {})) })
	}
	stays.Wait()
	return context.Cause(ctx)
}

// Rewrite gives all our keys another value, all at once.
func (s *Set) Rewrite(ctx context.Context, e *Entry, value string) error {
	var guards []clientv3.Cmp
	var puts []clientv3.Op
	for _, part := range e.parts {
		guards = append(guards, part.Guard())
		puts = append(puts, clientv3.OpPut(part.Key, value, clientv3.WithLease(part.Lease)))
	}
	_, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: s.queues[0].name, If: guards, Then: puts, Alone: true})
		switch {
		case err != nil:
			return err
		case !resp.Succeeded:
			return lockerr.ErrEvicted
		}
		for _, part := range e.parts {
			part.wrote(resp.Header.Revision)
			part.rewritten.Store(&value)
		}
		return nil
	})
	return err
}

// Leave deletes our keys, all at once, and returns when etcd confirmed that they are gone.
func (s *Set) Leave(ctx context.Context, e *Entry, tried bool) error {
	deleted := false
	unanswered, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		deleted, err = s.delete(ctx, e)
		return err
	})
	if err == nil && !deleted && !unanswered && !tried {
		return lockerr.ErrEvicted
	}
	return err
}

// LeaveOnce is one try of Leave.
func (s *Set) LeaveOnce(ctx context.Context, e *Entry) (deleted bool, err error) {
	return s.delete(ctx, e)
}

// delete deletes those of our keys that stand. deleted says that none was missing.
func (s *Set) delete(ctx context.Context, e *Entry) (deleted bool, err error) {
	var each []clientv3.Op
	for _, part := range e.parts {
		each = append(each, clientv3.OpTxn([]clientv3.Cmp{part.Guard()}, []clientv3.Op{clientv3.OpDelete(part.Key)}, nil))
	}
	resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: s.queues[0].name, Then: each, Alone: true})
	if err != nil {
		return false, err
	}
	for i := range e.parts {
		if !resp.Responses[i].GetResponseTxn().Succeeded {
			return false, nil
		}
	}
	return true, nil
}

// Rest waits for wake, for a moment. There is nothing to be kept meanwhile.
func (s *Set) Rest(<-chan struct{}) (woken bool) { return false }

// Close ends what the queues keep between calls.
func (s *Set) Close() {
	for _, q := range s.queues {
		q.Close()
	}
}
