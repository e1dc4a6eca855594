package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Swept is a key that is to be deleted if it stands.
type Swept struct {
	Name string // in whose queue it stands, or beside which
	Key  string
	Mark string // the key of the mark that it may have; "": it has none

	Deleted bool  // it stood, and is gone
	Err     error // for the caller
}

// MostSwept is how many keys one Sweep may have, below the server's limit of operations: three
// for each.
const MostSwept = 40

// Sweep deletes what stands under some keys, the late effects of writes that were not answered.
// No other goroutine may write them meanwhile. It reads all of them in one transaction, and
// deletes those that stand in another one; each is tried once. After an error some of
// them may have been deleted, or may be yet, unless they are written before: an entry that
// goes on with such a key writes it first, so that a delete which comes late is refused.
func (w *Writer) Sweep(ctx context.Context, all []Swept) error {
	reads := make([]clientv3.Op, 0, 2*len(all))
	for _, k := range all {
		reads = append(reads, clientv3.OpGet(k.Key))
		if k.Mark != "" {
			reads = append(reads, clientv3.OpGet(k.Mark))
		}
	}
	bounded, cancel := context.WithTimeout(ctx, FirstBound)
	defer cancel()
	resp, err := w.kv.Txn(bounded).Then(reads...).Commit()
	if err != nil {
		return err
	}
	var deletes []clientv3.Op
	var found []*Swept
	read := 0
	next := func() []*mvccpb.KeyValue {
		read++
		return resp.Responses[read-1].GetResponseRange().Kvs
	}
	for i := range all {
		k := &all[i]
		own, marks := next(), []*mvccpb.KeyValue(nil)
		if k.Mark != "" {
			marks = next()
		}
		if len(own) == 0 {
			continue
		}
		ops := []clientv3.Op{clientv3.OpDelete(k.Key)}
		if len(marks) > 0 {
			if m, ok := readMark(marks[0]); ok && m.isOf(own[0]) {
				ops = append(ops, clientv3.OpDelete(k.Mark))
			}
		}
		deletes = append(deletes, clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(k.Key), "=", own[0].ModRevision)}, ops, nil))
		found = append(found, k)
	}
	if len(found) == 0 {
		return nil
	}
	bounded, cancel = context.WithTimeout(ctx, FirstBound)
	defer cancel()
	if resp, err = w.TxnAlone(bounded, found[0].Name, nil, deletes, nil); err != nil {
		return err
	}
	for i, k := range found {
		if k.Deleted = resp.Responses[i].GetResponseTxn().Succeeded; !k.Deleted {
			err = errAgain // another session has restated it
		}
	}
	return err
}
