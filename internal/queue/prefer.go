package queue

import (
	"context"
	"errors"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A candidate may be preferred to candidates ahead of it, see package admission. Each of those
// re-enqueues behind it when it would be admitted. No candidate passes an older entry. So the preference
// decides which candidate leads next, and never lets two lead.

// ErrNoTarget is the error of a transfer to a candidate that has left.
var ErrNoTarget = errors.New("the candidate no longer waits")

// MayLead reports whether a candidate that is admitted shall lead. It is false if another candidate is
// preferred.
func (q *Queue) MayLead(ctx context.Context, e *Entry) (bool, error) {
	if e.first {
		return true, nil // no other candidate was there
	}
	s, err := q.shownTo(e), error(nil)
	if s == nil {
		if s, err = q.readRange(ctx, q.from, q.end); err != nil {
			return false, err
		}
	}
	var successors []*mvccpb.KeyValue
	if q.named || s.rewritten() {
		if successors, err = q.readSuccessors(ctx); err != nil {
			return false, err
		}
	}
	kvs := slices.Collect(maps.Values(s.entries))
	all, gone := q.candidates(kvs, successors)
	// No leader names a successor while e may lead, so a successor key without its entry is left over.
	q.named = len(gone) < len(successors)
	for _, by := range gone {
		q.clearSuccessor(ctx, by)
	}
	own := candidate(e.Key)
	if i := slices.IndexFunc(kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == e.Key }); i >= 0 {
		own = all[i]
	}
	return admission.MayLead(own, all), nil
}

// StepBehind moves an entry to the end of the queue, in one transaction, by a key in another slot. For
// unsure see Enter.
func (q *Queue) StepBehind(ctx context.Context, e *Entry, w Want) (moved *Entry, unsure bool, err error) {
	key := wire.SlotKey(q.name, w.Lease, w.Slot)
	tried := false
	unsure, err = q.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Commit(ctx, etcdkv.Txn{
			Name: q.name,
			If:   []clientv3.Cmp{e.Guard(), created(key, 0)},
			Then: []clientv3.Op{clientv3.OpDelete(e.Key), clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
			Else: []clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(key)},
		})
		if err != nil {
			tried = true
			return err
		}
		if resp.Succeeded {
			moved = newEntry(key, w, resp.Header.Revision)
			return nil
		}
		old, there := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
		switch {
		case e.standsIn(only(old)): // another key is left in that slot
			if _, err := q.LeaveOnce(ctx, adopt(key, w, there)); err != nil {
				return err
			}
			return errAgain
		case !tried || len(there) == 0:
			return lockerr.ErrEvicted
		}
		moved = adopt(key, w, there) // by an earlier try without an answer
		return nil
	})
	return moved, unsure, err
}

// HandTo deletes our key and names a candidate as the next leader, in one transaction. The error is
// ErrNoTarget if the candidate has left, and ErrEvicted if our key does not stand. Then nothing was done.
func (q *Queue) HandTo(ctx context.Context, e *Entry, to *mvccpb.KeyValue) error {
	tried := false
	_, err := q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		under := clientv3.WithLease(clientv3.LeaseID(to.Lease))
		key, value := wire.SuccessorKey(q.name, clientv3.LeaseID(to.Lease)), newSuccessor(to)
		then := []clientv3.Op{
			clientv3.OpDelete(e.Key), clientv3.OpPut(key, value, under),
			clientv3.OpPut(string(to.Key), string(to.Value), under), // as it is, see successor
		}
		if own := wire.SuccessorKey(q.name, e.Lease); own != key {
			then = append(then, clientv3.OpDelete(own))
		}
		resp, err := q.writer.Commit(ctx, etcdkv.Txn{
			Name: q.name,
			If: []clientv3.Cmp{
				e.Guard(), created(string(to.Key), to.CreateRevision),
				clientv3.Compare(clientv3.ModRevision(string(to.Key)), "=", to.ModRevision),
			},
			Then: then,
			Else: []clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(string(to.Key)), clientv3.OpGet(key)},
		})
		if err != nil || resp.Succeeded {
			tried = true
			return err
		}
		read := func(i int) *mvccpb.KeyValue { return only(resp.Responses[i].GetResponseRange().Kvs) }
		own, target, named := read(0), read(1), read(2)
		stands, there := own != nil && own.CreateRevision == e.CreateRevision, target != nil && same(target, to)
		switch {
		case !stands && tried && (!there || named != nil && string(named.Value) == value):
			return nil // by an earlier try without an answer: the candidate waits, leads, or has left
		case !stands:
			return lockerr.ErrEvicted
		case !there:
			return ErrNoTarget
		}
		to = target // which has written its key again
		return errAgain
	})
	return err
}
