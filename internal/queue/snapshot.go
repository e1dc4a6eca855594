package queue

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// snapshot has all keys of a range as they were in etcd at one revision, but for those beside names inside it.
type snapshot struct {
	from     string                      // where the range begins
	entries  map[string]*mvccpb.KeyValue // by key
	rev      int64
	timeline int // of rev
}

func newSnapshot(from string, rev int64, keys ...*mvccpb.KeyValue) *snapshot {
	s := &snapshot{from: from, rev: rev, entries: make(map[string]*mvccpb.KeyValue, len(keys))}
	for _, kv := range keys {
		s.entries[string(kv.Key)] = kv
	}
	return s
}

// readRange reads the keys of a range.
func (s *shared) readRange(ctx context.Context, key, end string) (*snapshot, error) {
	return inOneTimeline(s.tracker, func() (*snapshot, int, error) {
		before := s.tracker.Number()
		read, err := ask(ctx, s, 0, func(ctx context.Context) (*snapshot, error) {
			resp, err := s.kv.Get(ctx, key, clientv3.WithRange(end))
			if err != nil {
				return nil, err
			}
			return newSnapshot(key, resp.Header.Revision, entriesOf(key, resp.Kvs)...), nil
		})
		if err == nil {
			read.timeline = before
		}
		return read, before, err
	})
}

// inOneTimeline reads again if the reading may not be of the timeline that was the present one
// before.
func inOneTimeline[T any](t *timeline.Tracker, read func() (reading T, timeline int, err error)) (T, error) {
	for {
		reading, before, err := read()
		if err != nil || before == t.Number() {
			return reading, err
		}
	}
}

// change takes in one event. All events of a revision are taken in before the snapshot is used.
func (s *snapshot) change(ev *clientv3.Event) {
	if wire.BesideInner(s.from, ev.Kv.Key) {
		return
	}
	if ev.Type == clientv3.EventTypeDelete {
		delete(s.entries, string(ev.Kv.Key))
	} else {
		s.entries[string(ev.Kv.Key)] = ev.Kv
	}
}

// apply takes in the events of one response of a watch, which has all events of a revision.
func (s *snapshot) apply(events []*clientv3.Event) {
	for _, ev := range events {
		if ev.Kv.ModRevision > s.rev {
			s.change(ev)
		}
	}
	if n := len(events); n > 0 {
		s.rev = max(s.rev, events[n-1].Kv.ModRevision)
	}
}

// byAge returns the keys in the order of their creation.
func (s *snapshot) byAge() []*mvccpb.KeyValue {
	return slices.SortedFunc(maps.Values(s.entries), func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
}

// equal reports whether two snapshots have the same keys, written last at the same revisions.
func (s *snapshot) equal(o *snapshot) bool {
	return maps.EqualFunc(s.entries, o.entries, func(a, b *mvccpb.KeyValue) bool { return a.ModRevision == b.ModRevision })
}

// rewritten reports whether any key was written again after its creation.
func (s *snapshot) rewritten() bool {
	for _, kv := range s.entries {
		if kv.ModRevision > kv.CreateRevision {
			return true
		}
	}
	return false
}

// first returns the oldest key, or nil if there is none.
func (s *snapshot) first() *mvccpb.KeyValue {
	var first *mvccpb.KeyValue
	for _, kv := range s.entries {
		if first == nil || kv.CreateRevision < first.CreateRevision {
			first = kv
		}
	}
	return first
}
