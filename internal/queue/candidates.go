package queue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Candidates reads the entries at one revision, in the order in which they will lead. The first one leads
// or is about to.
func (q *Queue) Candidates(ctx context.Context) ([]*mvccpb.KeyValue, int64, error) {
	all, successors, rev, err := q.readCandidates(ctx, 0)
	if err != nil {
		return nil, 0, err
	}
	return q.rank(all, successors), rev, nil
}

// Next returns the candidate that was named as the next leader when a leader had just gone. If no
// candidate was named it is the oldest one, which leads or is about to. It is nil if the queue was empty.
// oldest may be a candidate of another library, which leads first. If etcd does not know that state any
// more, the present one counts.
func (q *Queue) Next(ctx context.Context, after *mvccpb.KeyValue) (next, oldest *mvccpb.KeyValue, err error) {
	all, successors, _, err := q.readCandidates(ctx, q.goneAt(ctx, after))
	if err != nil && ctx.Err() == nil { // compacted, or etcd was restored from a backup
		all, successors, _, err = q.readCandidates(ctx, 0)
	}
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	candidates, _ := q.candidates(all, successors)
	order := admission.Order(candidates)
	if len(all) > 1 && candidates[0].Successor == 0 && candidates[order[1]].Successor != 0 {
		return all[order[1]], all[0], nil
	}
	return all[0], all[0], nil
}

// goneAt returns the revision at which an entry was deleted; 0 if etcd does not tell soon.
func (q *Queue) goneAt(ctx context.Context, of *mvccpb.KeyValue) (rev int64) {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	q.Changes(ctx, string(of.Key), of.ModRevision+1, func(ev *clientv3.Event) (more bool) {
		if ev.Type == clientv3.EventTypeDelete {
			rev = ev.Kv.ModRevision
		}
		return rev == 0
	})
	return rev
}

// goneWithin bounds goneAt. etcd serves a watch on the past by a tick of 100 ms.
const goneWithin = 2 * time.Second

// readCandidates reads the entries, in order of age, and the successor keys at one revision, which is the
// present one for 0.
func (q *Queue) readCandidates(ctx context.Context, at int64) (all, successors []*mvccpb.KeyValue, rev int64, err error) {
	from, end := wire.SuccessorKeys(q.name)
	var resp *clientv3.TxnResponse
	_, err = q.retry(ctx, 0, func(ctx context.Context) (err error) {
		resp, err = q.kv.Txn(ctx).Then(
			clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithRev(at), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
			clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithRev(at)),
		).Commit()
		return err
	})
	if errors.Is(err, rpctypes.ErrPermissionDenied) { // for the successor keys, or for the queue, where List fails too
		all, rev, err = q.List(ctx)
		return all, nil, rev, err
	}
	if err != nil {
		return nil, nil, 0, err
	}
	return entriesOf(q.from, resp.Responses[0].GetResponseRange().Kvs), resp.Responses[1].GetResponseRange().Kvs, resp.Header.Revision, nil
}

// rank returns the entries of a queue, which are ordered by age, in the order in which they will lead.
func (q *Queue) rank(all, successors []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	candidates, _ := q.candidates(all, successors)
	ranked := make([]*mvccpb.KeyValue, 0, len(all))
	for _, i := range admission.Order(candidates) {
		ranked = append(ranked, all[i])
	}
	return ranked
}
