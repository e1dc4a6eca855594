package queue

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Contender is an entry of a queue with what it wants, by its value.
type Contender struct {
	*mvccpb.KeyValue
	Want wire.Holder

	// Ahead are the entries that block it, in the order of [admission.Lineup]. A holder has none.
	Ahead []*Contender
}

// Contenders returns the entries of the queue of a name, oldest first, with the entries that block them.
func Contenders(name string, kvs []*mvccpb.KeyValue) []*Contender {
	all := make([]*Contender, 0, len(kvs))
	for _, kv := range kvs {
		all = append(all, &Contender{KeyValue: kv, Want: wire.Wants(kv.Value)})
	}
	slices.SortFunc(all, func(a, b *Contender) int {
		return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(string(a.Key), string(b.Key)))
	})
	entries := make([]admission.Entry, len(all))
	for i, c := range all {
		entries[i] = contends(name, c.KeyValue, c.Want)
	}
	for i, blockers := range admission.Lineup(entries) {
		for _, j := range blockers {
			all[i].Ahead = append(all[i].Ahead, all[j])
		}
	}
	return all
}
