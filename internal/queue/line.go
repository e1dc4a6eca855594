package queue

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// line is the queue of one name in etcd: its keys, and the way to them. It does not change, and knows
// nothing of what a caller does in the queue. Its methods are safe for concurrent use.
type line struct {
	*shared
	name, from, end string
}

func (s *shared) line(name string) *line {
	from, end := wire.Range(name)
	return &line{shared: s, name: name, from: from, end: end}
}

// empty holds if the queue has no entry.
func (l *line) empty() clientv3.Cmp { return etcdkv.Created(l.from, l.end, 0) }

// List reads the whole queue at one revision, oldest entry first. It blocks until etcd has answered
// or ctx ends.
func (l *line) List(ctx context.Context) (kvs []*mvccpb.KeyValue, rev int64, err error) {
	resp, err := ask(ctx, l.shared, 0, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return l.kv.Get(ctx, l.from, clientv3.WithRange(l.end), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	})
	if err != nil {
		return nil, 0, err
	}
	return entriesOf(l.from, resp.Kvs), resp.Header.Revision, nil
}

// entriesOf returns those keys of a range that do not lie beside the queue of a name inside it. The range begins
// with from.
func entriesOf(from string, kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	if !slices.ContainsFunc(kvs, func(kv *mvccpb.KeyValue) bool { return wire.BesideInner(from, kv.Key) }) {
		return kvs
	}
	entries := make([]*mvccpb.KeyValue, 0, len(kvs))
	for _, kv := range kvs {
		if !wire.BesideInner(from, kv.Key) {
			entries = append(entries, kv)
		}
	}
	return entries
}

// nested returns an error with both names if a key in our range belongs to a name inside ours, and nil
// in any other case.
func (l *line) nested(kv *mvccpb.KeyValue) error {
	if inner, ok := wire.Nested(l.name, string(kv.Key)); ok {
		return fmt.Errorf("%w: %s is in use (key %s) and is inside %s: rename one of the two",
			lockerr.ErrNestedName, wire.Quote(inner), wire.Quote(string(kv.Key)), wire.Quote(l.name))
	}
	return nil
}
