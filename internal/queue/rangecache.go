package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// rangeCache has the keys of a range as they were in etcd at one revision, and a watch that keeps
// them up to date.
type rangeCache struct {
	follower
	*mirror
	queue       *Queue
	key, end    string // the range; end is empty for a single key
	deletesOnly bool   // true if the watch reports deletions only
}

// cache returns a cache of a range. Its first next opens the watch and reads the range.
func (q *Queue) cache(key, end string, deletesOnly bool, r rules) *rangeCache {
	c := &rangeCache{mirror: &mirror{}, queue: q, key: key, end: end, deletesOnly: deletesOnly}
	c.follower = newFollower(r, 0, func(ctx context.Context, from int64) *watch {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithRev(from)}
		if deletesOnly {
			opts = append(opts, clientv3.WithFilterPut())
		}
		return q.openLasting(ctx, func(life context.Context) *watch { return q.open(life, key, opts...) })
	})
	return c
}

// next blocks until the cache may show something else, wake is closed, or ctx ends. The error is
// the cause of ctx, or what etcd refuses.
func (c *rangeCache) next(ctx context.Context, wake <-chan struct{}) (what news, err error) {
	switch what, err = c.follower.next(ctx, wake); what {
	case told:
		c.apply(c.events)
	case silent:
		c.leave()
	case opened, due:
		var m *mirror
		if m, err = c.queue.readRange(ctx, c.key, c.end); err != nil {
			c.stop() // it was opened after what the cache shows
			return what, err
		}
		if what == due {
			c.checked(c.behind(m))
		}
		c.mirror = m
	}
	return what, err
}

// behind tells whether a reading shows what the watch should have reported.
func (c *rangeCache) behind(m *mirror) bool {
	if !c.deletesOnly {
		return !m.equal(c.mirror)
	}
	for key, kv := range c.entries {
		if !same(kv, m.entries[key]) {
			return true
		}
	}
	return false
}

// AwaitGone blocks until an entry of another session is gone, or ctx ends.
func (q *Queue) AwaitGone(ctx context.Context, of *mvccpb.KeyValue) error {
	c := q.cache(string(of.Key), "", true, waiting.seeded(clientv3.LeaseID(of.Lease)))
	defer c.close()
	for {
		if _, err := c.next(ctx, nil); err != nil {
			return err
		}
		if !same(c.entries[string(of.Key)], of) {
			return nil
		}
	}
}
