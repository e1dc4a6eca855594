package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Candidates reads the contenders in the order in which they are to lead, at one revision:
// after the first, who leads already or is about to, those who are preferred, see MayLead.
func (q *Queue) Candidates(ctx context.Context) ([]*mvccpb.KeyValue, int64, error) {
	from, end := wire.Marks(q.name)
	var resp *clientv3.TxnResponse
	_, err := q.retry(ctx, 0, func(ctx context.Context) (err error) {
		resp, err = q.kv.Txn(ctx).Then(
			clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
			clientv3.OpGet(from, clientv3.WithRange(end)),
		).Commit()
		return err
	})
	if errors.Is(err, rpctypes.ErrPermissionDenied) { // to read the marks; or the queue, which List tells
		kvs, rev, err := q.List(ctx)
		return q.rank(kvs, nil), rev, err
	}
	if err != nil {
		return nil, 0, err
	}
	return q.rank(resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs), resp.Header.Revision, nil
}

// rank orders a queue that is ordered by age. The one that the oldest mark names is to lead
// next, then the one of the next mark.
func (q *Queue) rank(all, marks []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	entries := make(map[string]*mvccpb.KeyValue, len(all))
	for _, kv := range all {
		entries[string(kv.Key)] = kv
	}
	slices.SortFunc(marks, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
	place := map[string]int{} // of those who have a mark, before all that have none
	for i, by := range marks {
		if of := q.marked(entries, by); of != nil && place[string(of.Key)] == 0 {
			place[string(of.Key)] = i - len(marks)
		}
	}
	if len(all) > 1 {
		slices.SortStableFunc(all[1:], func(a, b *mvccpb.KeyValue) int {
			return cmp.Or(
				cmp.Compare(place[string(a.Key)], place[string(b.Key)]),
				cmp.Compare(wire.Priority(string(b.Key)), wire.Priority(string(a.Key))),
			)
		})
	}
	return all
}
