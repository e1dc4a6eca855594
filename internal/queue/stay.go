package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Settle is how long a hold lasts before our own key is watched. Most holds are shorter, and are
// spared the watch.
const Settle = 250 * time.Millisecond

// Stay blocks until our own key is gone, and returns ErrEvicted, or until ctx ends, and returns its
// cause. A lease that is renewed proves nothing about the key (trap C12). The key is watched once
// settle has passed, which is Settle for a hold that has just begun.
//
// Once kept is closed, company is called when another entry is in the queue: at least once, soon
// after that entry came, whether it came before or after.
func (q *Queue) Stay(ctx context.Context, e *Entry, settle time.Duration, kept <-chan struct{}, company func()) error {
	c := q.cache
	if c != nil && c.serves(e) {
		c.begin(holding.seeded(e.Lease))
	} else {
		q.closeCache()
		c = q.ownKey(e, settle)
	}
	instead := func(next *rangeCache) {
		q.closeCache()
		c.close()
		c = next
	}
	defer func() {
		if c != q.cache {
			c.close()
		}
	}()
	for keeping := false; ; {
		shown, err := c.shows(ctx, e)
		switch {
		case err != nil:
			return err
		case shown && keeping && len(c.entries) > 1:
			company()
			if c != q.cache && !c.late {
				instead(q.ownKey(e, Settle))
			}
		case c == q.cache && q.crowded(len(c.entries)):
			instead(q.ownKey(e, Settle))
		}
		what, err := c.next(ctx, kept)
		if err != nil {
			return err
		}
		if what == woken {
			kept, keeping = nil, true
			if c.deletesOnly {
				instead(q.others(e))
			}
		}
		q.closeTheirs()
	}
}

// ownKey returns a cache of our own key, which is watched once settle has passed. The watch starts
// from the key's creation, and needs no read: it reports what happened since within the 100 ms that
// etcd takes for a watch on the past. Once that past is compacted, or after the watch has ended,
// another one starts from now, and a reading follows.
func (q *Queue) ownKey(e *Entry, settle time.Duration) *rangeCache {
	c := q.newCache(e.Key, "", true, holding.seeded(e.Lease))
	c.snapshot = newSnapshot(e.CreateRevision, e.KV())
	c.resume = e.CreateRevision + 1
	c.timer.Reset(settle)
	return c
}

// others returns a cache that shows whether the queue has other entries. It does not read all of
// them.
func (q *Queue) others(e *Entry) *rangeCache {
	c := q.newCache(q.from, q.end, false, holding.seeded(e.Lease))
	c.read = func(ctx context.Context) (*snapshot, error) {
		return ask(ctx, q.shared, int64(e.Lease), func(ctx context.Context) (*snapshot, error) {
			own, others, rev, err := q.besides(ctx, e, clientv3.OpGet(e.Key, clientv3.WithKeysOnly()),
				clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithKeysOnly(), clientv3.WithLimit(2)))
			if err != nil {
				return nil, err
			}
			return newSnapshot(rev, append(others, own)...), nil
		})
	}
	return c
}
