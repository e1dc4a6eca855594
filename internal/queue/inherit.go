package queue

import (
	"cmp"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// OwnKeys reads, at one revision, the keys that a lease has in the queues of some names: for each name
// the entries, oldest first, and the successor key if there is one. It blocks until etcd has answered or
// ctx ends.
func (s *Queues) OwnKeys(ctx context.Context, lease clientv3.LeaseID, names []string) (all [][]*mvccpb.KeyValue, err error) {
	reads := make([]clientv3.Op, len(names))
	for i, name := range names {
		reads[i] = clientv3.OpGet(wire.Key(name, lease), clientv3.WithPrefix())
	}
	_, err = s.retry(ctx, int64(lease), func(ctx context.Context) error {
		resp, err := s.kv.Txn(ctx).Then(reads...).Commit()
		if err != nil {
			return err
		}
		all = make([][]*mvccpb.KeyValue, len(names))
		for i, name := range names {
			for _, kv := range resp.Responses[i].GetResponseRange().Kvs {
				if p, ok := wire.ParseKey(string(kv.Key)); ok && p.Lease == lease && p.Name == name {
					all[i] = append(all[i], kv)
				}
			}
			slices.SortFunc(all[i], func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
		}
		return nil
	})
	return all, err
}
