package queue

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Set is several queues that are entered by one transaction, at one revision, and left by another one.
// Of two sets that share some queues, one is behind the other in all of these. So two sets never wait
// for each other.
//
// This holds for keys that the transaction has written. A set never takes over a key that its session
// has kept, because that key has another revision. So the keys of a set are of slots that nothing else
// uses.
//
// Its methods do what those of a Queue do.
type Set struct {
	*shared
	queues []*Queue
	slots  []wire.Slot
}

// MostTogether is the largest number of queues of a set. By default a server accepts 128 operations in a
// transaction, and entering takes two for each queue.
const MostTogether = 64

// Use changes the slots of the set's keys. The keys in these slots are the entry of a set already. The
// set must not have entered before.
func (s *Set) Use(slots []wire.Slot) { s.slots = slots }

// eachKey calls f with each queue and our key in it.
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

// TryEnter puts a key into each of the queues only if all of them are empty. If a try finds that nothing is in
// a queue but what lies beside names inside it, the next try writes if no key was written since then.
func (s *Set) TryEnter(ctx context.Context, w Want) (*Entry, bool, error) {
	var then, othw []clientv3.Op
	s.eachKey(w.Lease, func(_ int, _ *Queue, key string) {
		then = append(then, clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease)))
		othw = append(othw, clientv3.OpGet(key))
	})
	since, may := int64(0), false // an earlier try may have written
	for n := 1; ; n++ {
		var still []clientv3.Cmp
		reads := slices.Clone(othw)
		s.eachKey(w.Lease, func(_ int, q *Queue, _ string) {
			reads = append(reads, clientv3.OpGet(q.from, q.tried(n > 1)...))
			if since == 0 {
				still = append(still, q.empty())
			} else {
				still = append(still, clientv3.Compare(clientv3.ModRevision(q.from).WithRange(q.end), "<", since+1))
			}
		})
		e, unsure, err := s.enter(ctx, w, still, then, reads, func(*clientv3.TxnResponse, int) []*mvccpb.KeyValue { return nil })
		may = may || unsure
		var found besideError
		if !errors.As(err, &found) || n > tries {
			return e, may, err
		}
		since = int64(found)
	}
}

// besideError is the error of a TryEnter that has found only keys beside names inside the queues. It is the
// revision at which all of them were read, 0 if there are more.
type besideError int64

func (besideError) Error() string { return ErrTaken.Error() }
func (besideError) Unwrap() error { return ErrTaken }

// enter sends a transaction that enters. olderThan returns the older entries of a queue from the answer.
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
			read := olderThan(resp, i)
			older := entriesOf(s.queues[i].from, read)
			if len(read) < peek {
				ahead, _ := part.blocker(nil, older) // it is exclusive, which is never refused
				part.sees(seen{ahead: ahead, older: len(older)})
				part.first = len(older) == 0
			}
			first = first && part.first
			return part
		})
		e.first = first
		return nil
	})
	if err == nil && adopted {
		err = s.Rewrite(ctx, e, w.Value) // for the value and the token
	}
	return e, unsure, err
}

// adopt makes an entry of keys that exist already, by an earlier try without an answer or by another
// process on this lease. Keys that were not written together are no entry of a set, because they could
// wait for another set that waits for them. adopt deletes them, and returns errAgain.
func (s *Set) adopt(ctx context.Context, w Want, resp *clientv3.TxnResponse) (*Entry, error) {
	own := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().Kvs }
	var found []*Entry
	together := true
	s.eachKey(w.Lease, func(i int, _ *Queue, key string) {
		if kvs := own(i); len(kvs) > 0 {
			found = append(found, adopt(key, Want{Lease: w.Lease}, kvs))
		}
	})
	for _, part := range found {
		together = together && part.CreateRevision == found[0].CreateRevision
	}
	switch n := len(s.queues); {
	case len(found) == n && together:
		return s.whole(w, func(i int, _ string) *Entry { return found[i] }), nil
	case len(found) > 0:
		if _, err := s.LeaveOnce(ctx, &Entry{Lease: w.Lease, parts: &found}); err != nil {
			return nil, err
		}
		return nil, errAgain
	default: // only a TryEnter comes here
		rev := resp.Header.Revision
		for i, q := range s.queues {
			read := resp.Responses[n+i].GetResponseRange()
			if others := entriesOf(q.from, read.Kvs); len(others) > 0 {
				return nil, q.refusedBy(nil, nil, others, !read.More)
			}
			if read.More {
				rev = 0
			}
		}
		return nil, besideError(rev)
	}
}

// whole makes an entry of its parts.
func (s *Set) whole(w Want, part func(i int, key string) *Entry) *Entry {
	parts := make([]*Entry, len(s.queues))
	for i, q := range s.queues {
		parts[i] = part(i, wire.SlotKey(q.name, w.Lease, s.slots[i]))
	}
	e := &Entry{Lease: w.Lease, Key: parts[0].Key, CreateRevision: parts[0].CreateRevision, parts: &parts}
	e.modRevision.Store(e.CreateRevision)
	return e
}

// Await waits in one queue after the other. Once no older entry is left in a queue, none ever is. In the
// end it reads at one revision that all our keys stand.
func (s *Set) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	for i, q := range s.queues {
		_, err := q.Await(ctx, e.Parts()[i])
		q.Close()
		if err != nil {
			return 0, err
		}
		e.Parts()[i].obstacle.Store(nil)
	}
	return s.stand(ctx, e)
}

// Granted reads whether the entry is admitted in all queues.
func (s *Set) Granted(ctx context.Context, e *Entry) (granted bool, rev int64, err error) {
	if e.first {
		return true, e.CreateRevision, nil
	}
	for i, q := range s.queues {
		granted, _, err := q.Granted(ctx, e.Parts()[i])
		if err != nil || !granted {
			return false, 0, err
		}
	}
	rev, err = s.stand(ctx, e)
	return err == nil, rev, err
}

// stand reads at one revision that all our keys stand. The error is ErrEvicted if one does not.
func (s *Set) stand(ctx context.Context, e *Entry) (rev int64, err error) {
	var reads []clientv3.Op
	for _, part := range e.Parts() {
		reads = append(reads, clientv3.OpGet(part.Key, clientv3.WithKeysOnly()))
	}
	resp, err := ask(ctx, s.shared, int64(e.Lease), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.kv.Txn(ctx).Then(reads...).Commit()
	})
	if err != nil {
		return 0, err
	}
	for i, part := range e.Parts() {
		if !part.standsIn(only(resp.Responses[i].GetResponseRange().Kvs)) {
			return 0, lockerr.ErrEvicted
		}
	}
	return resp.Header.Revision, nil
}

// Rest returns at once, because a set keeps no watch between its waits.
func (s *Set) Rest(<-chan struct{}) (woken bool) { return false }

// Close ends what the queues keep between calls.
func (s *Set) Close() {
	for _, q := range s.queues {
		q.Close()
	}
}
