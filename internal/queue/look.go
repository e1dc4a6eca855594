package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// predecessor is the entry next ahead of ours, as it stood at a revision at which ours stood too.
type predecessor struct {
	*mvccpb.KeyValue // nil if there is none, or none is known
	at               int64
}

// look reads at one revision whether our own entry stands, and the entry that blocks it. The error
// is ErrEvicted if our own entry does not stand. The reading is linearizable.
func (l *line) look(ctx context.Context, e *Entry, n *length) (predecessor, error) {
	return ask(ctx, l.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) {
		if e.rule == nil {
			return l.lookAhead(ctx, e, 0, n)
		}
		return l.lookAround(ctx, e)
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
func (l *line) lookAhead(ctx context.Context, e *Entry, gone int64, n *length) (predecessor, error) {
	for limit := int64(2); ; limit *= moreBeside {
		opts := []clientv3.OpOption{clientv3.WithRange(l.end), clientv3.WithMaxCreateRev(e.CreateRevision),
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(limit), clientv3.WithKeysOnly()}
		if gone > 0 {
			opts = append(opts, clientv3.WithSerializable())
		}
		resp, err := l.kv.Get(ctx, l.from, opts...)
		if err != nil {
			return predecessor{}, err
		}
		if resp.Header.Revision < gone { // the member that answered lags
			return l.lookAhead(ctx, e, 0, n)
		}
		n.saw(resp.Count)
		if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs[0]) {
			return predecessor{}, lockerr.ErrEvicted
		}
		ahead := entriesOf(l.from, resp.Kvs[1:])
		if len(ahead) > 0 || !resp.More {
			return predecessor{only(ahead), resp.Header.Revision}, nil
		}
	}
}

// moreBeside is how many times as many keys are read if all that were read lie beside names inside the queue.
const moreBeside = 16

// lookBehind is look with less work for etcd, where possible. Once a watch has reported that the
// predecessor is gone, any member may answer. While before stands, it is the predecessor still, and
// is read with its value and lease.
func (l *line) lookBehind(ctx context.Context, e *Entry, before *mvccpb.KeyValue, gone int64, n *length) (predecessor, error) {
	switch {
	case e.rule != nil || before == nil && gone == 0:
		return l.look(ctx, e, n)
	case before == nil:
		return ask(ctx, l.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) { return l.lookAhead(ctx, e, gone, n) })
	}
	next, err := ask(ctx, l.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) {
		_, kvs, rev, err := l.besides(ctx, e, clientv3.OpGet(e.Key, clientv3.WithKeysOnly()), clientv3.OpGet(string(before.Key)))
		return predecessor{only(kvs), rev}, err
	})
	if err != nil || same(next.KeyValue, before) {
		return next, err
	}
	return l.look(ctx, e, n)
}

// lookAround is look for the other rules, which need the values.
func (l *line) lookAround(ctx context.Context, e *Entry) (predecessor, error) {
	others := []clientv3.OpOption{clientv3.WithRange(l.end)}
	if !admission.BlockedByYounger(e.rule.mode()) {
		others = append(others, clientv3.WithMaxCreateRev(e.CreateRevision-1))
	}
	own, all, rev, err := l.besides(ctx, e, clientv3.OpGet(e.Key), clientv3.OpGet(l.from, others...))
	if err != nil {
		return predecessor{}, err
	}
	next, err := e.blocker(own, all)
	return predecessor{next, rev}, err
}

// besides reads at one revision our own entry, by the first operation, and others. The error is
// ErrEvicted if our own entry does not stand. It is one try.
func (l *line) besides(ctx context.Context, e *Entry, own, others clientv3.Op) (kv *mvccpb.KeyValue, all []*mvccpb.KeyValue, rev int64, err error) {
	resp, err := l.kv.Txn(ctx).Then(own, others).Commit()
	if err != nil {
		return nil, nil, 0, err
	}
	kv = only(resp.Responses[0].GetResponseRange().Kvs)
	if !e.standsIn(kv) {
		return nil, nil, 0, lockerr.ErrEvicted
	}
	return kv, entriesOf(l.from, resp.Responses[1].GetResponseRange().Kvs), resp.Header.Revision, nil
}
