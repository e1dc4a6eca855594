package queues

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// What is the kind of a change.
type What string

// The changes.
const (
	LinedUp What = "waits"
	Granted What = "holds"
	Changed What = "changed"
	Gone    What = "left"
)

// Change is a change of an entry.
type Change struct {
	Time     time.Time `json:"time"`
	Revision int64     `json:"revision"`
	What     What      `json:"what"`
	Entry    Entry     `json:"entry"`
}

// lookEvery is the time between two checks whether etcd has other data, as after a restore. A watch
// would wait for the earlier revisions to come again.
const lookEvery = 10 * time.Second

// Follow calls tell for all entries of a name, and then for each change, until ctx ends or tell returns
// an error. If the watch fails, or etcd continues with other data, it reads again and tells the
// differences.
func Follow(ctx context.Context, client *clientv3.Client, name string, tell func(Change) error) error {
	var known []Entry
	kv, data := timeline.Of(client.KV)
	for {
		from, end := wire.Range(name)
		resp, err := kv.Get(ctx, from, clientv3.WithRange(end))
		if err == nil {
			present := make(map[string]*mvccpb.KeyValue)
			for _, kv := range resp.Kvs {
				present[string(kv.Key)] = kv
			}
			if known, err = tellDifference(name, known, present, resp.Header.Revision, tell); err != nil {
				return err
			}
			replaced, stop := untilReplaced(ctx, kv, data, from)
			known, err = followFrom(replaced, client, name, known, present, resp.Header.Revision+1, tell)
			stop()
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// untilReplaced returns a context that ends with ctx, or when etcd continues with other data.
func untilReplaced(ctx context.Context, kv clientv3.KV, data *timeline.Tracker, key string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	replaced := data.Changed()
	go func() {
		defer cancel()
		for {
			select {
			case <-replaced:
				return
			case <-ctx.Done():
				return
			case <-time.After(lookEvery):
			}
			bounded, done := context.WithTimeout(ctx, lookEvery)
			_, _ = kv.Get(bounded, key, clientv3.WithKeysOnly()) // data sees the answer
			done()
		}
	}()
	return ctx, cancel
}

// followFrom returns without an error when the watch has ended.
func followFrom(ctx context.Context, client *clientv3.Client, name string, known []Entry, present map[string]*mvccpb.KeyValue, rev int64, tell func(Change) error) ([]Entry, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from, end := wire.Range(name)
	for resp := range client.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithRev(rev)) {
		if resp.Err() != nil {
			return known, nil
		}
		// Revision by revision, so that no state is missed, even if it lasted for one revision.
		for i, ev := range resp.Events {
			if ev.Type == clientv3.EventTypeDelete {
				delete(present, string(ev.Kv.Key))
			} else {
				present[string(ev.Kv.Key)] = ev.Kv
			}
			if i+1 < len(resp.Events) && resp.Events[i+1].Kv.ModRevision == ev.Kv.ModRevision {
				continue
			}
			var err error
			if known, err = tellDifference(name, known, present, ev.Kv.ModRevision, tell); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// tellDifference tells what differs at a revision, and returns the present entries.
func tellDifference(name string, known []Entry, present map[string]*mvccpb.KeyValue, rev int64, tell func(Change) error) ([]Entry, error) {
	var kvs []*mvccpb.KeyValue
	for _, kv := range present {
		kvs = append(kvs, kv)
	}
	now := New(name, own(name, kvs)).Entries
	for _, c := range Difference(known, now, rev) {
		if err := tell(c); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// Difference has the changes of a queue from some entries to others, at a revision: the deleted entries
// first, and then the others in order.
func Difference(known, now []Entry, rev int64) (changes []Change) {
	add := func(what What, e Entry) {
		changes = append(changes, Change{Time: time.Now(), Revision: rev, What: what, Entry: e})
	}
	for _, e := range known {
		if find(now, e) == nil {
			add(Gone, e)
		}
	}
	for _, e := range now {
		switch before := find(known, e); {
		case (before == nil || !before.Holds) && e.Holds:
			add(Granted, e)
		case before == nil:
			add(LinedUp, e)
		case before.ModRevision != e.ModRevision:
			add(Changed, e)
		}
	}
	return changes
}

// find finds the same entry, and not a later one with the same key.
func find(in []Entry, e Entry) *Entry {
	i := slices.IndexFunc(in, func(o Entry) bool { return o.Key == e.Key && o.CreateRevision == e.CreateRevision })
	if i < 0 {
		return nil
	}
	return &in[i]
}
