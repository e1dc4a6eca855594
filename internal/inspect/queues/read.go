package queues

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	page  = 1000 // keys in one answer
	batch = 60   // names in one transaction, with two ranges for each; etcd takes 128
)

// Store has the queues and keys under a prefix, at one revision.
type Store struct {
	Revision int64
	Keys     int     // number of keys of all kinds
	Queues   []Queue // sorted by name

	// Others are the first mostOthers keys in no used queue that would block a lock of the name before
	// their last slash. Without a prefix they are only keys in the form of a queue entry, because
	// nearly every key could otherwise block some lock.
	Others []string
}

const mostOthers = 10000

// All reads the queues of all names that begin with a prefix. Of other keys it reads the names only.
func All(ctx context.Context, client *clientv3.Client, prefix string) (*Store, error) {
	l, err := Load(ctx, client, prefix)
	if err != nil {
		return nil, err
	}
	s := &Store{Revision: l.Revision, Keys: l.Keys, Others: l.Others}
	for _, name := range slices.Sorted(maps.Keys(l.Names)) {
		s.Queues = append(s.Queues, l.Names[name].Queue(name))
	}
	return s, nil
}

// Loaded has the keys of the used queues under a prefix with their values, at one revision.
type Loaded struct {
	Revision int64
	Keys     int // as in Store
	Names    map[string]Keys
	Others   []string // as in Store
}

// Keys are the keys of a name.
type Keys struct {
	Entries []*mvccpb.KeyValue // in its queue, without the keys of names inside it
	Beside  []*mvccpb.KeyValue // beside its queue; empty if the user lacks the permission
}

// Queue makes the queue of the keys of a name.
func (k Keys) Queue(name string) Queue {
	q := New(name, k.Entries)
	q.tell(k.Beside)
	return q
}

// Load reads the keys of all queues under a prefix. From etcd 3.7 on a read of many keys without their
// values has no leases, so the leases are listed by a request of their own.
func Load(ctx context.Context, client *clientv3.Client, prefix string) (*Loaded, error) {
	l := &Loaded{Names: make(map[string]Keys)}
	names, err := l.scan(ctx, client, prefix)
	if err != nil {
		return nil, err
	}
	for some := range slices.Chunk(names, batch) {
		read, err := read(ctx, client.KV, some, l.Revision)
		if err != nil {
			return nil, err
		}
		for i, name := range some {
			if q := New(name, read[i].Entries); q.Used() {
				l.Names[name] = read[i]
			}
		}
	}
	l.Others = slices.DeleteFunc(l.Others, func(key string) bool {
		name, _ := wire.NameOf(key)
		_, used := l.Names[name]
		return used
	})
	return l, nil
}

// scan reads the names of all keys, and returns the names that may be used, in order.
func (l *Loaded) scan(ctx context.Context, client *clientv3.Client, prefix string) ([]string, error) {
	var entries []string // keys in the form of a queue entry
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00" // all keys
	}
	for {
		opts := []clientv3.OpOption{
			clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(page), clientv3.WithRev(l.Revision),
		}
		resp, err := client.Get(ctx, from, opts...)
		if err != nil {
			return nil, err
		}
		if l.Revision == 0 {
			l.Revision = resp.Header.Revision
		}
		l.Keys += len(resp.Kvs)
		for _, kv := range resp.Kvs {
			if p, ok := wire.ParseKey(string(kv.Key)); ok && strings.HasPrefix(p.Name, prefix) {
				entries = append(entries, string(kv.Key))
			}
			if len(l.Others) < mostOthers && blocks(string(kv.Key), prefix) {
				l.Others = append(l.Others, string(kv.Key))
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	// The leases are listed after the keys. Before them, a lease that is granted in between would be missing.
	alive, err := leases(ctx, client, l.Revision)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, key := range entries {
		if name, ok := nameOf(key, alive); ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// blocks reports whether a key would block a lock under a prefix, see Store.Others.
func blocks(key, prefix string) bool {
	if prefix == "" {
		_, entry := nameOf(key, nil)
		return entry
	}
	name, ok := wire.NameOf(key)
	return ok && strings.HasPrefix(wire.Prefix(name), prefix)
}

// WithoutLease returns the keys that exist without a lease. Their values are not read.
func WithoutLease(ctx context.Context, kv clientv3.KV, keys []string) (stray []string, err error) {
	for some := range slices.Chunk(keys, batch) {
		ops := make([]clientv3.Op, len(some))
		for i, key := range some {
			ops[i] = clientv3.OpTxn([]clientv3.Cmp{
				clientv3.Compare(clientv3.CreateRevision(key), ">", 0), clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease),
			}, nil, nil)
		}
		resp, err := kv.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, err
		}
		for i, key := range some {
			if resp.Responses[i].GetResponseTxn().Succeeded {
				stray = append(stray, key)
			}
		}
	}
	return stray, nil
}

// leases returns the leases of a revision or later, or nil if the user may not list them. A member
// answers with the leases that it knows, so one that is behind is asked again.
func leases(ctx context.Context, client *clientv3.Client, rev int64) (map[clientv3.LeaseID]bool, error) {
	var resp *clientv3.LeaseLeasesResponse
	for {
		var err error
		resp, err = client.Leases(ctx)
		if errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if resp.ResponseHeader == nil || resp.Revision >= rev {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	alive := make(map[clientv3.LeaseID]bool, len(resp.Leases))
	for _, l := range resp.Leases {
		alive[l.ID] = true
	}
	return alive, nil
}

// One reads the queue of a name, and returns the revision of the read.
func One(ctx context.Context, kv clientv3.KV, name string) (q Queue, rev int64, err error) {
	return some(ctx, kv, name, 0)
}

// At reads the queue of a name as it was at a revision.
func At(ctx context.Context, kv clientv3.KV, name string, rev int64) (Queue, error) {
	all, err := read(ctx, kv, []string{name}, rev)
	if err != nil {
		return Queue{}, err
	}
	return all[0].Queue(name), nil
}

// First reads the first limit entries of a queue, in the order of their keys, or all if limit is 0.
func First(ctx context.Context, kv clientv3.KV, name string, limit int) (Queue, error) {
	q, _, err := some(ctx, kv, name, int64(limit))
	return q, err
}

func some(ctx context.Context, kv clientv3.KV, name string, limit int64) (q Queue, rev int64, err error) {
	from, end := wire.Range(name)
	resp, err := kv.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(limit))
	if err != nil {
		return Queue{}, 0, err
	}
	q = New(name, own(name, resp.Kvs))
	if limit == 0 && len(q.Entries) > 0 {
		if said, err := kv.Get(ctx, notes(name), clientv3.WithPrefix()); err == nil { // notes are optional, and the user may lack the permission
			q.tell(said.Kvs)
		}
	}
	return q, resp.Header.Revision, nil
}

// read reads the keys of names at a revision.
func read(ctx context.Context, kv clientv3.KV, names []string, rev int64) ([]Keys, error) {
	ops := make([]clientv3.Op, len(names))
	for i, name := range names {
		from, end := wire.Range(name)
		ops[i] = clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithRev(rev))
	}
	with := slices.Clone(ops)
	for _, name := range names {
		with = append(with, clientv3.OpGet(wire.Side(name, ""), clientv3.WithPrefix(), clientv3.WithRev(rev)))
	}
	resp, err := kv.Txn(ctx).Then(with...).Commit()
	if errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) { // the user may lack the permission for keys beside the queue only
		resp, err = kv.Txn(ctx).Then(ops...).Commit()
	}
	if err != nil {
		return nil, err
	}
	all := make([]Keys, len(names))
	for i, name := range names {
		all[i].Entries = own(name, resp.Responses[i].GetResponseRange().Kvs)
		if len(resp.Responses) > len(names) {
			all[i].Beside = resp.Responses[len(names)+i].GetResponseRange().Kvs
		}
	}
	return all, nil
}

// own returns the keys of a name, without the keys of names inside it.
func own(name string, kvs []*mvccpb.KeyValue) (some []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if _, nested := wire.Nested(name, string(kv.Key)); !nested {
			some = append(some, kv)
		}
	}
	return some
}

// Requests reads the requests to release a name.
func Requests(ctx context.Context, kv clientv3.KV, name string) ([]Request, error) {
	resp, err := kv.Get(ctx, wire.Side(name, "ask/"), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var all []Request
	for _, kv := range resp.Kvs {
		if r, ok := NewRequest(kv); ok {
			all = append(all, r)
		}
	}
	return all, nil
}

// TTLs reads the leases of the entries of a queue, several at a time.
func (q *Queue) TTLs(ctx context.Context, lease clientv3.Lease) error {
	var (
		wg    sync.WaitGroup
		limit = make(chan struct{}, 16)
		mu    sync.Mutex
		bad   error
	)
	for i := range q.Entries {
		e := &q.Entries[i]
		if e.Stray() {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			resp, err := lease.TimeToLive(ctx, e.Lease)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad = err
				return
			}
			e.GrantedTTL, e.TTL = resp.GrantedTTL, max(resp.TTL, 0)
		})
	}
	wg.Wait()
	return bad
}
