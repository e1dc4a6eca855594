package queue

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Snapshot reads all keys under a prefix at one revision.
func Snapshot(ctx context.Context, kv clientv3.KV, prefix string) ([]*mvccpb.KeyValue, error) {
	var kvs []*mvccpb.KeyValue
	_, err := etcdkv.Retry(ctx, etcdkv.Requests(0), func(ctx context.Context) error {
		resp, err := kv.Get(ctx, prefix, clientv3.WithPrefix())
		if err == nil {
			kvs = resp.Kvs
		}
		return err
	})
	return kvs, err
}

// AwaitGone blocks until an entry of another session is gone, or ctx ends.
func (q *Queue) AwaitGone(ctx context.Context, of *mvccpb.KeyValue) error {
	c := q.newCache(string(of.Key), "", true, waiting.seeded(clientv3.LeaseID(of.Lease)))
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

// AwaitUntil blocks until done reports true or an error for the entries of the queue, which are in order
// of age, or ctx ends.
func (q *Queue) AwaitUntil(ctx context.Context, lease clientv3.LeaseID, done func([]*mvccpb.KeyValue) (bool, error)) error {
	return awaitUntil(ctx, nil, q.newCache(q.from, q.end, false, waiting.seeded(lease)), done)
}

// FollowBeside reports all keys under a prefix, in order of age: those that are there, and again when they
// have changed or wake has a value. A key that is deleted soon may be left out. It blocks until ctx ends, and returns its
// cause, until tell returns an error, or until etcd refuses.
func (q *Queue) FollowBeside(ctx context.Context, prefix string, wake <-chan struct{}, tell func([]*mvccpb.KeyValue) error) error {
	return awaitUntil(ctx, wake, q.newCache(prefix, clientv3.GetPrefixRangeEnd(prefix), false, holding), func(all []*mvccpb.KeyValue) (bool, error) {
		return false, tell(all)
	})
}

func awaitUntil(ctx context.Context, wake <-chan struct{}, c *rangeCache, done func([]*mvccpb.KeyValue) (bool, error)) error {
	defer c.close()
	for {
		if _, err := c.next(ctx, wake); err != nil {
			return err
		}
		if is, err := done(c.byAge()); is || err != nil {
			return err
		}
	}
}

// Changes reports the changes of a key from a revision on, in order. It blocks until tell returns
// false, ctx ends, etcd refuses to continue, as after a compaction, or no watch can be opened for
// waitResync.
func (q *Queue) Changes(ctx context.Context, key string, from int64, tell func(*clientv3.Event) (more bool)) {
	f := newFollower(following, 0, func(ctx context.Context, from int64) *watch {
		return q.open(ctx, key, clientv3.WithRev(from))
	})
	f.startAt(from, waitResync)
	defer f.close()
	for {
		what, err := f.next(ctx, nil)
		if what == due {
			f.checked(false)
			_, err = q.readRange(ctx, key, "") // which shows the tracker of timelines an answer
		}
		if err != nil || what == opened || f.watch == nil && f.resume == 0 {
			return
		}
		for _, ev := range f.events {
			if !tell(ev) {
				return
			}
		}
	}
}

// Put writes a key, and returns the revision of the write. It blocks until etcd has confirmed the write,
// or ctx ends. If unsure is true, a try may take effect later.
func Put(ctx context.Context, kv clientv3.KV, key, value string, lease clientv3.LeaseID) (rev int64, unsure bool, err error) {
	unsure, err = etcdkv.Retry(ctx, etcdkv.Requests(int64(lease)), func(ctx context.Context) error {
		resp, err := kv.Put(ctx, key, value, clientv3.WithLease(lease))
		if err == nil {
			rev = resp.Header.Revision
		}
		return err
	})
	return rev, unsure, err
}

// Delete deletes a key that was last written at a revision. It blocks until etcd has confirmed that this
// key does not stand any more, or ctx ends. A try that takes effect later deletes no other key: the next
// process with this lease may have written one under the same name.
func Delete(ctx context.Context, kv clientv3.KV, key string, rev int64) error {
	_, err := etcdkv.Retry(ctx, etcdkv.Requests(0), func(ctx context.Context) error {
		_, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(clientv3.OpDelete(key)).Commit()
		return err
	})
	return err
}
