package simetcd

import (
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A version is what one revision made of a key; a nil kv is a deletion.
type version struct {
	rev int64
	kv  *mvccpb.KeyValue
}

// A change is one entry of the store's history.
type change struct {
	rev int64
	kv  *mvccpb.KeyValue // of a deletion: key and ModRevision only, as etcd reports it
	// prev is the key's state before, nil when there was none.
	prev    *mvccpb.KeyValue
	deleted bool
	// missed changes are delivered to no watch: see Server.MissDelete.
	missed bool
}

// event is a change as a watch reports it.
func (c *change) event() *mvccpb.Event {
	ev := &mvccpb.Event{Kv: copyKV(c.kv)}
	if c.deleted {
		ev.Type = mvccpb.Event_DELETE
	}
	return ev
}

// A store is etcd's multi-version key-value store. Everything in it is never modified once it is in, so that readers
// share it; replies carry copies, because clients (a namespaced one) write into what they get.
type store struct {
	rev       int64 // the current revision; an empty etcd is at 1
	compacted int64 // -1 until the first compaction, as in etcd
	keys      map[string][]version
	order     []string // the keys of the map, sorted
	log       []change // of all revisions >= compacted
	// attached is told when the lease of a key changes; 0 is none.
	attached func(key string, before, after int64)
}

func newStore() *store {
	return &store{rev: 1, compacted: -1, keys: make(map[string][]version)}
}

// get returns what key was at revision rev, nil when it was not there.
func (st *store) get(key string, rev int64) *mvccpb.KeyValue {
	vs := st.keys[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].rev <= rev {
			return vs[i].kv
		}
	}
	return nil
}

// scan returns the keys of a range at revision rev, sorted by key.
func (st *store) scan(key, end []byte, rev int64) []*mvccpb.KeyValue {
	if len(end) == 0 {
		if kv := st.get(string(key), rev); kv != nil {
			return []*mvccpb.KeyValue{kv}
		}
		return nil
	}
	var kvs []*mvccpb.KeyValue
	last := string(end)
	for i := sort.SearchStrings(st.order, string(key)); i < len(st.order); i++ {
		if last != fromKey && st.order[i] >= last {
			break
		}
		if kv := st.get(st.order[i], rev); kv != nil {
			kvs = append(kvs, kv)
		}
	}
	return kvs
}

// fromKey is the range end that means "all keys from here on".
const fromKey = "\x00"

// inRange reports whether a key lies in a range as requests write it.
func inRange(k, key, end string) bool {
	switch end {
	case "":
		return k == key
	case fromKey:
		return k >= key
	default:
		return key <= k && k < end
	}
}

// A writing is a write transaction: all its changes get one revision, and it sees its own changes.
type writing struct {
	st      *store
	changes []change
}

// at is the revision at which the transaction reads.
func (w *writing) at() int64 {
	if len(w.changes) > 0 {
		return w.st.rev + 1
	}
	return w.st.rev
}

func (w *writing) put(key string, value []byte, lease int64) {
	rev := w.st.rev + 1
	prev := w.st.get(key, rev)
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: value, CreateRevision: rev, ModRevision: rev, Version: 1, Lease: lease}
	var before int64
	if prev != nil {
		kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
		before = prev.Lease
	}
	w.add(key, kv, change{rev: rev, kv: kv, prev: prev})
	if before != lease {
		w.st.attached(key, before, lease)
	}
}

func (w *writing) deleteRange(key, end []byte) int64 {
	kvs := w.st.scan(key, end, w.at())
	for _, kv := range kvs {
		w.delete(kv)
	}
	return int64(len(kvs))
}

func (w *writing) delete(prev *mvccpb.KeyValue) {
	rev := w.st.rev + 1
	tomb := &mvccpb.KeyValue{Key: prev.Key, ModRevision: rev}
	w.add(string(prev.Key), nil, change{rev: rev, kv: tomb, prev: prev, deleted: true})
	if prev.Lease != 0 {
		w.st.attached(string(prev.Key), prev.Lease, 0)
	}
}

func (w *writing) add(key string, kv *mvccpb.KeyValue, c change) {
	vs, known := w.st.keys[key]
	if !known {
		i := sort.SearchStrings(w.st.order, key)
		w.st.order = append(w.st.order, "")
		copy(w.st.order[i+1:], w.st.order[i:])
		w.st.order[i] = key
	}
	w.st.keys[key] = append(vs, version{rev: w.st.rev + 1, kv: kv})
	w.changes = append(w.changes, c)
}

// end makes the changes the store's; a transaction that changed nothing takes no revision.
func (w *writing) end() {
	if len(w.changes) == 0 {
		return
	}
	w.st.rev++
	w.st.log = append(w.st.log, w.changes...)
}

// since returns the history from revision rev on.
func (st *store) since(rev int64) []change {
	i := sort.Search(len(st.log), func(i int) bool { return st.log[i].rev >= rev })
	return st.log[i:]
}

// compact forgets what was overwritten before rev. What changed at rev itself stays, deletions too.
func (st *store) compact(rev int64) {
	st.compacted = rev
	st.log = append([]change(nil), st.since(rev)...)
	order := st.order[:0]
	for _, key := range st.order {
		vs := st.keys[key]
		// The newest version at or below rev is what the key was then, and the first one to keep.
		first := sort.Search(len(vs), func(i int) bool { return vs[i].rev > rev }) - 1
		vs = vs[max(first, 0):]
		if len(vs) == 1 && vs[0].kv == nil && vs[0].rev <= rev {
			delete(st.keys, key)
			continue
		}
		st.keys[key] = append([]version(nil), vs...)
		order = append(order, key)
	}
	st.order = order
}

// copyKV makes a copy for a reply.
func copyKV(kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return &mvccpb.KeyValue{
		Key:            kv.Key,
		Value:          kv.Value,
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
		Version:        kv.Version,
		Lease:          kv.Lease,
	}
}

func copyKVs(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	out := make([]*mvccpb.KeyValue, len(kvs))
	for i, kv := range kvs {
		out[i] = copyKV(kv)
	}
	return out
}
