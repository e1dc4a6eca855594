package queue

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Await blocks until the rule of the entry admits it: without a rule, until no older entry is left.
// It returns the revision at which this was seen together with our own key, which is the proof of
// the grant (traps A6, B1, D1).
//
// The error is ErrEvicted when our key was deleted, lockerr.ErrNestedName when an older key shows
// that another name lies inside ours, and the cause of ctx when ctx ends. Our key stays in each
// case but the first.
func (q *Queue) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	if q.cache != nil || e.ahead != nil && e.older <= q.shortQueue || e.rule.watchesAll() {
		rev, err := q.awaitInCache(ctx, e)
		if !errors.Is(err, errTooLong) {
			return rev, err
		}
	}
	return q.awaitPredecessor(ctx, e)
}

// predecessor is the entry next ahead of ours, as it stood at a revision at which ours stood too.
type predecessor struct {
	*mvccpb.KeyValue // nil if there is none, or none is known
	at               int64
}

// look reads at one revision whether our own entry stands, and the entry that blocks it. The error
// is ErrEvicted if our own entry does not stand. The reading is linearizable.
func (q *Queue) look(ctx context.Context, e *Entry) (predecessor, error) {
	return ask(ctx, q.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) {
		if e.rule == nil {
			return q.lookAhead(ctx, e, 0)
		}
		return q.lookAround(ctx, e)
	})
}

// lookAhead is look for an exclusive entry. etcd applies the rule here: the youngest entry that is
// not younger than ours is our own, and the next one blocks it. Only the key of that one is read,
// which etcd has in memory, and not its lease. The values of thousands of entries that etcd has to
// sort would come from disk.
//
// If a watch has reported that the predecessor was gone at a revision, any member may answer that
// knows this revision: once no older entry is left, none ever is, and our own key is seen at the
// same revision. So the members need not agree on the latest revision first.
func (q *Queue) lookAhead(ctx context.Context, e *Entry, gone int64) (predecessor, error) {
	opts := []clientv3.OpOption{clientv3.WithRange(q.end), clientv3.WithMaxCreateRev(e.CreateRevision),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(2), clientv3.WithKeysOnly()}
	if gone > 0 {
		opts = append(opts, clientv3.WithSerializable())
	}
	resp, err := q.kv.Get(ctx, q.from, opts...)
	if err != nil {
		return predecessor{}, err
	}
	if resp.Header.Revision < gone { // the member that answered lags
		return q.lookAhead(ctx, e, 0)
	}
	q.size.Store(resp.Count)
	if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs[0]) {
		return predecessor{}, lockerr.ErrEvicted
	}
	return predecessor{only(resp.Kvs[1:]), resp.Header.Revision}, nil
}

// lookAround is look for the other rules, which need the values.
func (q *Queue) lookAround(ctx context.Context, e *Entry) (predecessor, error) {
	others := []clientv3.OpOption{clientv3.WithRange(q.end)}
	if !admission.BlockedByYounger(e.rule.mode()) {
		others = append(others, clientv3.WithMaxCreateRev(e.CreateRevision-1))
	}
	own, all, rev, err := q.besides(ctx, e, clientv3.OpGet(e.Key), clientv3.OpGet(q.from, others...))
	if err != nil {
		return predecessor{}, err
	}
	next, err := e.blocker(own, all)
	return predecessor{next, rev}, err
}

// besides reads at one revision our own entry, by the first operation, and others. The error is
// ErrEvicted if our own entry does not stand. It is one try.
func (q *Queue) besides(ctx context.Context, e *Entry, own, others clientv3.Op) (kv *mvccpb.KeyValue, all []*mvccpb.KeyValue, rev int64, err error) {
	resp, err := q.kv.Txn(ctx).Then(own, others).Commit()
	if err != nil {
		return nil, nil, 0, err
	}
	kv = only(resp.Responses[0].GetResponseRange().Kvs)
	if !e.standsIn(kv) {
		return nil, nil, 0, lockerr.ErrEvicted
	}
	return kv, resp.Responses[1].GetResponseRange().Kvs, resp.Header.Revision, nil
}

// standsIn reports whether the key of the entry, as it was read, is that of this entry.
func (e *Entry) standsIn(own *mvccpb.KeyValue) bool {
	return own != nil && own.CreateRevision == e.CreateRevision
}
