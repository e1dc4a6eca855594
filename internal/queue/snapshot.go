package queue

import (
	"context"
	"time"

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

// AwaitGone blocks until an entry of somebody else's is gone, or ctx ends.
func (q *Queue) AwaitGone(ctx context.Context, of *mvccpb.KeyValue) error {
	resync := time.NewTicker(waitResync)
	defer resync.Stop()
	for failed := 0; ; failed++ {
		w := q.openOn(ctx, of, clientv3.WithFilterPut())
		stands, err := q.standsStill(ctx, of)
		if err != nil || !stands {
			w.stop()
			return err
		}
		if w == nil {
			if err := sleep(ctx, etcdkv.Pause(failed, of.Lease)); err != nil {
				return err
			}
			continue
		}
		failed = 0
		select {
		case <-w.ch():
		case <-resync.C:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		w.stop()
		if err != nil {
			return err
		}
	}
}

func (q *Queue) standsStill(ctx context.Context, of *mvccpb.KeyValue) (stands bool, err error) {
	_, err = q.retry(ctx, of.Lease, func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, string(of.Key))
		if err == nil {
			stands = len(resp.Kvs) > 0 && same(resp.Kvs[0], of)
		}
		return err
	})
	return stands, err
}

// Each tells of every key under a prefix, those that are there and those that are written
// later, until ctx ends (its cause) or etcd refuses (its error). It may tell of a key more
// than once.
func (q *Queue) Each(ctx context.Context, prefix string, tell func(*mvccpb.KeyValue)) error {
	for failed := 0; ; failed++ {
		w := q.open(ctx, prefix, clientv3.WithPrefix())
		kvs, err := Snapshot(ctx, q.kv, prefix)
		if err != nil {
			w.stop()
			return err
		}
		for _, kv := range kvs {
			tell(kv)
		}
		if w != nil {
			failed = 0
			for resp := range w.events {
				if resp.Err() != nil {
					break
				}
				for _, ev := range resp.Events {
					if ev.Type == clientv3.EventTypePut {
						tell(ev.Kv)
					}
				}
			}
			w.stop()
		}
		if err := sleep(ctx, etcdkv.Pause(failed, 0)); err != nil {
			return err
		}
	}
}

// Changes tells of the changes of a key from a revision on, in order, until tell returns false, ctx
// ends, or etcd refuses to go on, as after a compaction.
func (q *Queue) Changes(ctx context.Context, key string, from int64, tell func(*clientv3.Event) (more bool)) {
	for failed := 0; ; failed++ {
		if w := q.openUnread(ctx, key, clientv3.WithRev(from)); w != nil {
			more := true
			for resp := range w.events {
				more = more && resp.Err() == nil
				for _, ev := range resp.Events {
					if more {
						from, more = ev.Kv.ModRevision+1, tell(ev)
					}
				}
				if !more {
					break
				}
			}
			w.stop()
			if !more || w.cancelled != nil && w.cancelled() {
				return
			}
		}
		if sleep(ctx, etcdkv.Pause(failed, 0)) != nil {
			return
		}
	}
}

// Put writes a key, and returns when etcd has confirmed that, or ctx ends. If unsure, a try
// of it may even take effect later.
func Put(ctx context.Context, kv clientv3.KV, key, value string, lease clientv3.LeaseID) (unsure bool, err error) {
	return etcdkv.Retry(ctx, etcdkv.Requests(int64(lease)), func(ctx context.Context) error {
		_, err := kv.Put(ctx, key, value, clientv3.WithLease(lease))
		return err
	})
}

// Delete deletes a key, whatever stands under it, and returns when etcd has confirmed that, or
// ctx ends.
func Delete(ctx context.Context, kv clientv3.KV, key string) error {
	_, err := etcdkv.Retry(ctx, etcdkv.Requests(0), func(ctx context.Context) error {
		_, err := kv.Delete(ctx, key)
		return err
	})
	return err
}
