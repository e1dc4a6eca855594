package mirror

import (
	"encoding/json"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// What is kept is bounded, because any client can write any keys and values.
const (
	mostValue   = 64 << 10 // bytes of the value of a lock, which says what its process holds
	mostText    = 4 << 10  // bytes of any other value
	mostSpare   = 10000    // keys that are no entries of a lease
	mostHistory = 64       // changes of a name
	mostFree    = 2000     // unused names that have a history
)

// name is what is known of a name. Its maps have one entry for each key.
type name struct {
	entries map[string]*mvccpb.KeyValue // in its queue
	beside  map[string]*mvccpb.KeyValue // beside its queue
	sizes   map[string]int              // of values that are cut
	history []queues.Change             // oldest first
	view    *View
}

// get returns what is known of a name, or a new name. Callers hold mu.
func (m *Mirror) get(of string) *name {
	n := m.names[of]
	if n == nil {
		n = &name{entries: make(map[string]*mvccpb.KeyValue), beside: make(map[string]*mvccpb.KeyValue), sizes: make(map[string]int)}
		n.view = &View{Queue: queues.New(of, nil)}
		m.names[of] = n
	}
	return n
}

// place puts the key of an event to its name, and returns this name. ok is false for a key that is not
// kept. Callers hold mu.
func (m *Mirror) place(ev *clientv3.Event) (of string, ok bool) {
	key := string(ev.Kv.Key)
	gone := ev.Type == clientv3.EventTypeDelete
	if name, what, beside := strings.Cut(key, wire.Side("", "")); beside {
		if !isKept(what) || m.names[name] == nil && gone {
			return "", false
		}
		m.get(name).putBeside(ev.Kv, gone)
		return name, true
	}
	if of, ok = wire.NameOf(key); !ok || m.names[of] == nil && gone {
		return "", false
	}
	return of, m.put(of, ev.Kv, gone)
}

// put keeps an entry of a name, or removes it.
func (m *Mirror) put(of string, kv *mvccpb.KeyValue, gone bool) bool {
	key := string(kv.Key)
	old := m.names[of]
	had := old != nil && old.entries[key] != nil
	if had && isSpare(old.entries[key]) {
		m.spare--
	}
	if gone {
		if had {
			delete(old.entries, key)
			delete(old.sizes, key)
		}
		return had
	}
	if isSpare(kv) {
		if m.spare >= mostSpare {
			if had {
				delete(old.entries, key)
			}
			return had
		}
		m.spare++
	}
	m.get(of).keep(kv)
	return true
}

// keep keeps an entry, with its value as far as it is shown.
func (n *name) keep(kv *mvccpb.KeyValue) {
	key, most := string(kv.Key), mostText
	switch _, lock := wire.DecodeHolder(kv.Value); {
	case isSpare(kv):
		most = 0
	case lock:
		most = mostValue
	}
	delete(n.sizes, key)
	if len(kv.Value) > most {
		n.sizes[key] = len(kv.Value)
		kv = &mvccpb.KeyValue{
			Key: kv.Key, Value: slices.Clone(kv.Value[:min(most, mostText)]), Lease: kv.Lease,
			CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
		}
	}
	n.entries[key] = kv
}

// isSpare reports whether a key has not the form of a queue entry under its own lease.
func isSpare(kv *mvccpb.KeyValue) bool {
	p, ok := wire.ParseKey(string(kv.Key))
	return !ok || p.Lease == clientv3.NoLease || int64(p.Lease) != kv.Lease
}

// limitKey is the end of the key beside a queue with the limit that SetLimit has set.
const limitKey = "limit"

// isKept reports whether a key beside a queue says something that is shown.
func isKept(what string) bool {
	return what == limitKey || strings.HasPrefix(what, "ask/") || queues.IsNote(wire.Side("", what))
}

func (n *name) putBeside(kv *mvccpb.KeyValue, gone bool) {
	if gone || len(kv.Value) > mostText {
		delete(n.beside, string(kv.Key))
		return
	}
	n.beside[string(kv.Key)] = kv
}

// refresh makes the view of a name after a change. Callers hold mu.
func (m *Mirror) refresh(of string, rev int64) {
	n := m.names[of]
	if n == nil {
		return
	}
	m.list = nil
	view := &View{Revision: rev, Sizes: make(map[string]int, len(n.sizes))}
	keys := queues.Keys{}
	for _, kv := range n.entries {
		keys.Entries = append(keys.Entries, kv)
	}
	for _, kv := range n.beside {
		keys.Beside = append(keys.Beside, kv)
	}
	for key, size := range n.sizes {
		view.Sizes[key] = size
	}
	view.Queue = keys.Queue(of)
	view.Requests, view.Limit = requests(keys.Beside)
	if before := n.view; before.Used() || view.Used() {
		n.history = append(n.history, queues.Difference(before.Entries, view.Entries, rev)...)
		n.history = slices.Clone(n.history[max(0, len(n.history)-mostHistory):])
	}
	view.History = n.history
	n.view = view
	if len(n.entries) == 0 && len(n.beside) == 0 {
		m.prune(of, n)
	}
}

// prune forgets an empty name without a history, and the empty names with the oldest history if there
// are too many.
func (m *Mirror) prune(of string, n *name) {
	if len(n.history) == 0 {
		delete(m.names, of)
	}
	if m.emptied++; m.emptied < mostFree { // so that a search is rare
		return
	}
	m.emptied = 0
	type free struct {
		name string
		rev  int64
	}
	var all []free
	for of, n := range m.names {
		if len(n.entries) == 0 && len(n.beside) == 0 {
			all = append(all, free{of, n.view.Revision})
		}
	}
	slices.SortFunc(all, func(a, b free) int { return int(b.rev - a.rev) })
	for _, f := range all[min(mostFree, len(all)):] {
		delete(m.names, f.name)
	}
}

// requests reads what lies beside a queue.
func requests(kvs []*mvccpb.KeyValue) (asks []queues.Request, limit int) {
	for _, kv := range kvs {
		_, what, _ := strings.Cut(string(kv.Key), wire.Side("", ""))
		switch {
		case what == limitKey:
			var order struct{ Limit int }
			if json.Unmarshal(kv.Value, &order) == nil {
				limit = order.Limit
			}
		case strings.HasPrefix(what, "ask/"):
			if r, ok := queues.NewRequest(kv); ok {
				asks = append(asks, r)
			}
		}
	}
	slices.SortFunc(asks, func(a, b queues.Request) int { return a.Since.Compare(b.Since) })
	return asks, limit
}

// replace makes what was read all that is known. The history continues with the differences. Callers
// hold mu.
func (m *Mirror) replace(l *queues.Loaded, stray []string) {
	first := !m.state.Loaded
	m.spare, m.list = 0, nil
	for _, n := range m.names {
		clear(n.entries)
		clear(n.beside)
		clear(n.sizes)
	}
	for of, keys := range l.Names {
		m.get(of)
		for _, kv := range keys.Entries {
			m.put(of, kv, false)
		}
		for _, kv := range keys.Beside {
			if _, what, _ := strings.Cut(string(kv.Key), wire.Side("", "")); isKept(what) {
				m.get(of).putBeside(kv, false)
			}
		}
	}
	for _, key := range stray {
		of, _ := wire.NameOf(key)
		m.put(of, &mvccpb.KeyValue{Key: []byte(key), CreateRevision: 1, ModRevision: 1}, false) // older than all others
	}
	for of, n := range m.names {
		m.refresh(of, l.Revision)
		if first { // what was there at the start is no change
			n.history, n.view.History = nil, nil
		}
	}
}
