package eviction

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Order says which entry of a queue is to be evicted, and how.
type Order struct {
	Name   string
	Notice Notice           // the entry, and the reason; it is written only with a reason
	Lease  clientv3.LeaseID // of the entry
	Revoke bool             // true: the lease is revoked, which ends all that its process holds under it
	Guards []clientv3.Cmp   // further conditions
}

// Evict deletes the entry, or revokes its lease. It does nothing and returns an answer without success
// if the entry is not the one of the order, because the next one may hold by now, or if a guard fails.
// The same transaction writes the reason, if there is one.
func Evict(ctx context.Context, client *clientv3.Client, o Order) (*clientv3.TxnResponse, error) {
	key := o.Notice.Key
	ops, withdraw, err := notice(ctx, client, o)
	if err != nil {
		return nil, err
	}
	if !o.Revoke {
		ops = append(ops, clientv3.OpDelete(key))
	}
	same := clientv3.Compare(clientv3.CreateRevision(key), "=", o.Notice.CreateRevision)
	resp, err := client.Txn(ctx).If(append([]clientv3.Cmp{same}, o.Guards...)...).Then(ops...).Commit()
	if err != nil || !resp.Succeeded {
		withdraw()
		return resp, err
	}
	if o.Revoke {
		if _, err = client.Revoke(ctx, o.Lease); err != nil {
			withdraw()
		}
	}
	return resp, err
}

// notice makes the operation that writes the reason, if there is one, and its lease. withdraw deletes
// both.
func notice(ctx context.Context, client *clientv3.Client, o Order) (ops []clientv3.Op, withdraw func(), err error) {
	if o.Notice.Reason == "" {
		return nil, func() {}, nil
	}
	lease, err := client.Grant(ctx, int64(Kept/time.Second))
	if err != nil {
		return nil, nil, err
	}
	put, err := o.Notice.Put(o.Name, lease.ID)
	return []clientv3.Op{put}, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // ctx may be why it failed
		defer cancel()
		_, _ = client.Revoke(ctx, lease.ID)
	}, err
}
