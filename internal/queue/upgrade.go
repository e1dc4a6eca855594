package queue

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// ErrUpgrading: another reader is becoming a writer already.
var ErrUpgrading = errors.New("another reader is being upgraded")

// Upgrade marks the entry of a reader that is in as becoming a writer, and returns the entry by
// which that is awaited; ErrUpgrading when another one is ahead with that, and then the mark
// is to be taken back. value is what the key is to say, with its bound.
//
// Those that are in beside it, or may be without knowing yet, are the readers in front of
// the first writer. So the bound of the mark is that writer, and with none the mark itself:
// who came before it is let in, and waited for; who comes after it waits. The mark is
// written first, without a bound, so that nobody else comes in from then on; then the bound,
// while that writer still stands. So for each entry there is one answer at whichever
// revision it looks, and no two wait for each other.
//
// Of two marks the older one counts, or the one that has a bound already, which was found
// to be the older one.
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
			m, err := e.marked(resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs)
			switch {
			case err != nil || m.done:
				return err
			case m.writer != nil:
				cmps = []clientv3.Cmp{created(string(m.writer.Key), m.writer.CreateRevision)}
				put = value(m.writer.CreateRevision)
			default: // not ours any more, or not yet
				cmps, put = nil, value(0)
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

// marking is how far the mark of an entry has come.
type marking struct {
	writer *mvccpb.KeyValue // who is to be its bound
	done   bool
}

// marked reads that from the whole queue.
func (e *Entry) marked(all []*mvccpb.KeyValue) (m marking, err error) {
	var own *mvccpb.KeyValue
	for _, kv := range all {
		if string(kv.Key) == e.Key && kv.CreateRevision == e.CreateRevision {
			own = kv
		}
	}
	if own == nil {
		return m, lockerr.ErrEvicted
	}
	e.wrote(own.ModRevision)
	mine := wire.Wants(own.Value)
	if mine.Mode != wire.Upgrading {
		return m, nil
	}
	for _, kv := range all {
		theirs := wire.Wants(kv.Value)
		switch {
		case kv == own:
		case theirs.Mode == wire.Upgrading:
			if mine.Bound == 0 && (theirs.Bound > 0 || kv.ModRevision < own.ModRevision) {
				return m, ErrUpgrading
			}
		case theirs.Mode != wire.Shared && kv.CreateRevision < own.ModRevision && (m.writer == nil || kv.CreateRevision < m.writer.CreateRevision):
			m.writer = kv
		}
	}
	m.done = mine.Bound > 0 || m.writer == nil
	return m, nil
}

// NoneWaits reads whether nobody waits behind an entry but to read beside it, and nobody at
// all becomes a writer; ErrEvicted when the entry does not stand.
func (q *Queue) NoneWaits(ctx context.Context, e *Entry) (none bool, err error) {
	_, err = q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key, clientv3.WithKeysOnly()),
			clientv3.OpGet(q.from, clientv3.WithRange(q.end))).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return lockerr.ErrEvicted
		}
		none = true
		for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
			mode := wire.Wants(kv.Value).Mode
			none = none && (mode == wire.Shared || string(kv.Key) == e.Key)
		}
		return nil
	})
	return none, err
}
