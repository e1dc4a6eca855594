package queue

import (
	"cmp"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Candidates reads the contenders in the order in which they are to lead, at one revision:
// after the first, who leads already or is about to, those who are preferred, see MayLead.
func (q *Queue) Candidates(ctx context.Context) ([]*mvccpb.KeyValue, int64, error) {
	kvs, rev, err := q.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	return rank(kvs), rev, nil
}

// rank orders a queue that is ordered by age.
func rank(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	marked := map[string]int{} // the keys of those who have a mark, by its place
	var all []*mvccpb.KeyValue
	for _, kv := range kvs {
		m, ok := readMark(kv)
		if !ok {
			all = append(all, kv)
			continue
		}
		for _, of := range kvs {
			if _, twice := marked[m.Key]; !twice && m.isOf(of) {
				marked[m.Key] = len(marked) - len(kvs) // before all that have none
			}
		}
	}
	if len(all) > 1 {
		slices.SortStableFunc(all[1:], func(a, b *mvccpb.KeyValue) int {
			return cmp.Or(
				cmp.Compare(marked[string(a.Key)], marked[string(b.Key)]),
				cmp.Compare(wire.Priority(string(b.Key)), wire.Priority(string(a.Key))),
			)
		})
	}
	return all
}
