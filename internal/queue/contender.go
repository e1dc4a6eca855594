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

// contends returns a key in the queue of a name for the rules, with what its value asks for.
func contends(name string, kv *mvccpb.KeyValue, wants wire.Holder) admission.Entry {
	_, nested := wire.Nested(name, string(kv.Key))
	return admission.Entry{
		Created: kv.CreateRevision, Modified: kv.ModRevision,
		Mode: wants.Mode, Bound: wants.Bound, Permits: wants.Permits, Limit: wants.Limit, Ordered: wants.Ordered,
		Nested: nested,
	}
}

// fewEntries is the number of entries that are checked without an allocation, as many as a cache has.
const fewEntries = 8

// blocker returns the entry that blocks e, or nil if e is admitted. own is the key of e, and all are the
// entries of the queue at one revision, with or without own. For an exclusive entry own may be nil, and
// the values may be missing.
func (e *Entry) blocker(own *mvccpb.KeyValue, all []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	name, _ := wire.NameOf(e.Key)
	mine, err := e.asRuled(name, own)
	if err != nil {
		return nil, err
	}
	var few [fewEntries]admission.Entry
	others := few[:0]
	if len(all) > fewEntries {
		others = make([]admission.Entry, 0, len(all))
	}
	if admission.ByAgeAlone(mine.Mode) {
		for _, kv := range all {
			others = append(others, admission.Entry{Created: kv.CreateRevision})
		}
	} else {
		for _, kv := range all {
			others = append(others, contends(name, kv, wire.Wants(kv.Value)))
		}
	}
	i, err := admission.Blocker(mine, others)
	if i == admission.None || err != nil {
		return nil, err
	}
	return all[i], nil
}

// asRuled returns e for the rules. For permits and for an upgrade the value in etcd decides, which other
// sessions may have changed.
func (e *Entry) asRuled(name string, own *mvccpb.KeyValue) (admission.Entry, error) {
	mode := e.rule.mode()
	if mode == wire.Exclusive || mode == wire.Shared {
		return admission.Entry{Created: e.CreateRevision, Mode: mode}, nil
	}
	mine := contends(name, own, wire.Wants(own.Value))
	if mine.Mode != mode {
		return mine, ErrOverwritten
	}
	return mine, nil
}

// Becomes reports whether an entry with a value may be rewritten to another value and keeps its place.
func Becomes(value []byte, wanted string) bool {
	return admission.Becomes(wire.Wants(value), wire.Wants([]byte(wanted)))
}

// Blocked reports whether any of these entries blocks e. value is that of e.
func (e *Entry) Blocked(value string, others []*mvccpb.KeyValue) bool {
	blocker, err := e.blocker(e.kv(value), others)
	return blocker != nil || err != nil
}
