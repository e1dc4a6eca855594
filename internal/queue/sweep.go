package queue

import (
	"cmp"
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Swept is a key that is to be deleted if it stands.
type Swept struct {
	Name string // of the queue in which, or beside which, it stands
	Key  string

	Deleted bool  // true if it stood, and was deleted
	Err     error // for the caller
}

// MostSwept is the largest number of keys of one Sweep. It takes two operations for each key, which stays
// below a server's default limit.
const MostSwept = 40

// Sweep deletes keys that writes without an answer have left. No other goroutine writes these keys
// meanwhile. It reads all of them in one transaction, and deletes those that stand in another one. Each
// transaction is tried once. After an error some keys may have been deleted, or may be deleted later,
// unless they are written before. So an entry that continues with such a key writes it first, and a late
// deletion is refused.
func (s *Queues) Sweep(ctx context.Context, all []Swept) error {
	reads := make([]clientv3.Op, 0, len(all))
	for _, k := range all {
		reads = append(reads, clientv3.OpGet(k.Key))
	}
	bounded, cancel := context.WithTimeout(ctx, etcdkv.FirstBound)
	defer cancel()
	resp, err := s.kv.Txn(bounded).Then(reads...).Commit()
	if err != nil {
		return err
	}
	var failed error
	var deletes []clientv3.Op
	var found []*Swept
	var successors []clientv3.Op // successor keys that name candidates which are deleted
	for i := range all {
		k, own := &all[i], resp.Responses[i].GetResponseRange().Kvs
		if len(own) == 0 {
			continue
		}
		if p, ok := wire.ParseKey(k.Key); ok && p.Slot.Marked() {
			if err := s.sweepMarked(ctx, k, p, own); err != nil {
				failed = err // the others are deleted nevertheless
			}
			continue
		}
		ops := []clientv3.Op{clientv3.OpDelete(k.Key)}
		deletes = append(deletes, clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(k.Key), "=", own[0].ModRevision)}, ops, nil))
		found = append(found, k)
		if p, ok := wire.ParseKey(k.Key); ok && own[0].ModRevision > own[0].CreateRevision {
			key := wire.SuccessorKey(p.Name, p.Lease)
			successors = append(successors, clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", newSuccessor(own[0]))},
				[]clientv3.Op{clientv3.OpDelete(key)}, nil))
		}
	}
	if len(found) == 0 {
		return failed
	}
	bounded, cancel = context.WithTimeout(ctx, etcdkv.FirstBound)
	defer cancel()
	if resp, err = s.writer.Commit(bounded, etcdkv.Txn{Name: found[0].Name, Then: deletes, Alone: true}); err != nil {
		return err
	}
	for i, k := range found {
		if k.Deleted = resp.Responses[i].GetResponseTxn().Succeeded; !k.Deleted {
			err = errAgain // another session has restated it
		}
	}
	if len(successors) > 0 { // nothing breaks if they stay
		_, _ = s.writer.Commit(bounded, etcdkv.Txn{Name: found[0].Name, Then: successors, Alone: true})
	}
	return cmp.Or(err, failed)
}

// sweepMarked deletes a marked key as its entry would, because another entry may rely on it. The inbox was
// written with the key. A present entry of the session that loses it looks for itself.
func (s *Queues) sweepMarked(ctx context.Context, k *Swept, p wire.Parsed, own []*mvccpb.KeyValue) (err error) {
	ctx, cancel := context.WithTimeout(ctx, etcdkv.FirstBound)
	defer cancel()
	e := adopt(k.Key, Want{Lease: p.Lease, Slot: p.Slot}, own)
	k.Deleted, err = s.line(p.Name).leaveMarked(ctx, departing{Entry: e, mod: own[0].ModRevision, inbox: wire.InboxKey(p.Name, p.Lease)})
	return err
}
