package queue

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// mirror is a whole queue as it is in etcd at one revision.
type mirror struct {
	entries  map[string]*mvccpb.KeyValue // by key
	rev      int64
	timeline int // that of rev
}

// read reads the queue as it is now.
func (q *Queue) read(ctx context.Context) (*mirror, error) { return q.readRange(ctx, q.from, q.end) }

// readRange reads the keys of a range as they are now.
func (q *Queue) readRange(ctx context.Context, key, end string) (*mirror, error) {
	return inOneTimeline(q, func() (*mirror, int, error) {
		m := &mirror{timeline: q.tracker.Number()}
		return m, m.timeline, q.readInto(ctx, m, key, end)
	})
}

// inOneTimeline reads again if it is not certain that a reading is of the timeline that was the
// present one before.
func inOneTimeline[T any](q *Queue, read func() (reading T, timeline int, err error)) (T, error) {
	for {
		reading, before, err := read()
		if err != nil || before == q.tracker.Number() {
			return reading, err
		}
	}
}

func (q *Queue) readInto(ctx context.Context, m *mirror, key, end string) error {
	_, err := q.retry(ctx, 0, func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, key, clientv3.WithRange(end))
		if err != nil {
			return err
		}
		m.rev, m.entries = resp.Header.Revision, make(map[string]*mvccpb.KeyValue, len(resp.Kvs))
		for _, kv := range resp.Kvs {
			m.entries[string(kv.Key)] = kv
		}
		return nil
	})
	return err
}

// change takes in one event. Of several events of one revision all must be taken in
// before the mirror is looked at.
func (m *mirror) change(ev *clientv3.Event) {
	if ev.Type == clientv3.EventTypeDelete {
		delete(m.entries, string(ev.Kv.Key))
	} else {
		m.entries[string(ev.Kv.Key)] = ev.Kv
	}
}

// apply takes in the events of one answer of a watch, which holds all of a revision.
func (m *mirror) apply(events []*clientv3.Event) {
	for _, ev := range events {
		if ev.Kv.ModRevision > m.rev {
			m.change(ev)
		}
	}
	if n := len(events); n > 0 {
		m.rev = max(m.rev, events[n-1].Kv.ModRevision)
	}
}

// equal tells whether both show the same entries.
func (m *mirror) equal(o *mirror) bool {
	return maps.EqualFunc(m.entries, o.entries, func(a, b *mvccpb.KeyValue) bool { return a.ModRevision == b.ModRevision })
}

// writtenAfter returns the keys that were written after a revision, in the order of these writes.
func (m *mirror) writtenAfter(rev int64) (kvs []*mvccpb.KeyValue) {
	for _, kv := range m.entries {
		if kv.ModRevision > rev {
			kvs = append(kvs, kv)
		}
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
	return kvs
}

// first is the oldest entry; nil for none.
func (m *mirror) first() *mvccpb.KeyValue {
	var first *mvccpb.KeyValue
	for _, kv := range m.entries {
		if first == nil || kv.CreateRevision < first.CreateRevision {
			first = kv
		}
	}
	return first
}

// blocker is the entry that blocks another one; nil if that is admitted.
func (m *mirror) blocker(e *Entry) (*mvccpb.KeyValue, error) {
	var few [fewEntries]*mvccpb.KeyValue
	all := few[:0]
	for _, kv := range m.entries {
		all = append(all, kv)
	}
	return e.blocker(m.entries[e.Key], all)
}
