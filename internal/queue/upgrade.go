package queue

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// ErrUpgrading: another reader is becoming a writer already.
var ErrUpgrading = errors.New("another reader is being upgraded")

// Upgrade marks the entry of a reader that is in as becoming a writer, and returns the entry by
// which that is awaited; ErrUpgrading, and nothing was written, when another one has the
// mark. value is what the key is to say, with its bound.
//
// Those that are in beside it, or may be without knowing yet, are the readers in front of
// the first writer. So the bound is that writer, and with none the mark itself: who came
// before it is let in, and waited for; who comes after it waits. The mark is written only
// if nobody has come or changed since the queue was read, and that writer still stands.
// So for each entry there is one answer, whichever revision it looks at, and no two
// wait for each other.
func (q *Queue) Upgrade(ctx context.Context, e *Entry, value func(bound int64) string) (*Entry, error) {
	_, err := retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		for {
			resp, err := q.kv.Get(ctx, q.from, clientv3.WithRange(q.end))
			if err != nil {
				return err
			}
			bound, writer, err := e.upgradable(resp.Kvs)
			if err != nil {
				return err
			}
			if bound < 0 { // an earlier try of ours
				return nil
			}
			cmps := []clientv3.Cmp{
				e.Guard(), clientv3.Compare(clientv3.ModRevision(q.from).WithRange(q.end), "<", resp.Header.Revision+1),
			}
			if writer != nil {
				cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(string(writer.Key)), "=", writer.CreateRevision))
			}
			marked, err := q.writer.Txn(ctx, q.name, cmps,
				[]clientv3.Op{clientv3.OpPut(e.Key, value(bound), clientv3.WithLease(e.Lease))}, nil)
			if err != nil {
				return err
			}
			if marked.Succeeded {
				e.wrote(marked.Header.Revision)
				return nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	marked := newEntry(e.Key, Want{Lease: e.Lease, Rule: sole()}, e.CreateRevision)
	marked.wrote(e.modRevision.Load())
	return marked, nil
}

// upgradable reads from the whole queue what the bound of a mark has to be, and who the
// first writer is, if any; the bound is -1 when the entry has its mark.
func (e *Entry) upgradable(all []*mvccpb.KeyValue) (bound int64, writer *mvccpb.KeyValue, err error) {
	stands := false
	for _, kv := range all {
		mode := wire.Wants(kv.Value).Mode
		switch {
		case string(kv.Key) == e.Key && kv.CreateRevision == e.CreateRevision:
			stands = true
			if mode == wire.Upgrading {
				e.wrote(kv.ModRevision)
				bound = -1
			}
		case mode == wire.Upgrading:
			return 0, nil, ErrUpgrading
		case mode != wire.Shared && (writer == nil || kv.CreateRevision < writer.CreateRevision):
			writer = kv
		}
	}
	switch {
	case !stands:
		return 0, nil, ErrGone
	case bound < 0:
		return bound, nil, nil
	case writer != nil:
		return writer.CreateRevision, writer, nil
	default:
		return 0, nil, nil
	}
}

// NoneWaits reads whether nobody waits behind an entry but to read beside it; ErrGone when
// the entry does not stand.
func (q *Queue) NoneWaits(ctx context.Context, e *Entry) (none bool, err error) {
	_, err = retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key, clientv3.WithKeysOnly()),
			clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithMinCreateRev(e.CreateRevision+1))).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return ErrGone
		}
		none = true
		for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
			none = none && wire.Wants(kv.Value).Mode == wire.Shared
		}
		return nil
	})
	return none, err
}
