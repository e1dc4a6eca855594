package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Upgrade writes the upgrade intent of a reader that holds, and returns the entry for Await. value returns
// the value of the key with a bound. For the two writes and their order see [admission.NextUpgradeStep].
// The bound is written only while the writer that it names stands.
//
// The error is admission.ErrUpgrading if another reader is ahead. Then the caller takes the intent back.
func (q *Queue) Upgrade(ctx context.Context, e *Entry, value func(bound int64) string) (*Entry, error) {
	_, err := q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		cmps, put := []clientv3.Cmp{}, value(0)
		for {
			resp, err := q.writer.Commit(ctx, etcdkv.Txn{
				Name: q.name,
				If:   append(cmps, e.Guard(), clientv3.Compare(clientv3.ModRevision(e.Key), "=", e.modRevision.Load())),
				Then: []clientv3.Op{clientv3.OpPut(e.Key, put, clientv3.WithLease(e.Lease)), clientv3.OpGet(q.from, clientv3.WithRange(q.end))},
				Else: []clientv3.Op{clientv3.OpGet(q.from, clientv3.WithRange(q.end))},
			})
			if err != nil {
				return err
			}
			step, writer, err := e.nextUpgradeStep(entriesOf(q.from, resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs))
			switch {
			case err != nil || step == admission.AwaitAdmission:
				return err
			case step == admission.WriteBound:
				cmps = []clientv3.Cmp{created(string(writer.Key), writer.CreateRevision)}
				put = value(writer.CreateRevision)
			default: // another client has written the key, or the write is yet to be made
				cmps, put = nil, value(0)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	upgrading := newEntry(e.Key, Want{Lease: e.Lease, Rule: &Rule{wants: wire.Upgrading}}, e.CreateRevision)
	upgrading.wrote(e.modRevision.Load())
	upgrading.marked = e.marked
	return upgrading, nil
}

// nextUpgradeStep returns the next step of an upgrade, by the whole queue. writer is the entry that is to
// be its bound.
func (e *Entry) nextUpgradeStep(all []*mvccpb.KeyValue) (step admission.UpgradeStep, writer *mvccpb.KeyValue, err error) {
	name, _ := wire.NameOf(e.Key)
	var own *admission.Entry
	entries := make([]admission.Entry, len(all))
	for i, kv := range all {
		entries[i] = contends(name, kv, wire.Wants(kv.Value))
		if string(kv.Key) == e.Key && kv.CreateRevision == e.CreateRevision {
			own = &entries[i]
		}
	}
	if own == nil {
		return step, nil, lockerr.ErrEvicted
	}
	e.wrote(own.Modified)
	step, i, err := admission.NextUpgradeStep(*own, entries)
	if i != admission.None {
		writer = all[i]
	}
	return step, writer, err
}

// NoneWaits reads whether all other entries are readers without an upgrade intent. The error is ErrEvicted
// if the entry does not stand.
func (q *Queue) NoneWaits(ctx context.Context, e *Entry) (none bool, err error) {
	return ask(ctx, q.shared, int64(e.Lease), func(ctx context.Context) (bool, error) {
		_, all, _, err := q.besides(ctx, e, clientv3.OpGet(e.Key, clientv3.WithKeysOnly()), clientv3.OpGet(q.from, clientv3.WithRange(q.end)))
		entries := make([]admission.Entry, 0, len(all))
		for _, kv := range all {
			entries = append(entries, contends(q.name, kv, wire.Wants(kv.Value)))
		}
		return admission.OnlyReaders(admission.Entry{Created: e.CreateRevision}, entries), err
	})
}
