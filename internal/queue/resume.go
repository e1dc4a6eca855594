package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// resume opens another watch on the whole queue, which tells of everything that comes after what the
// last one told. It returns nil when that cannot be had: etcd has compacted what comes next or
// refuses to go on, ctx ends, or etcd has not answered for waitResync. Then the queue has to be read
// again. A watch by etcd's client resumes by itself as long as it can, and returns nil here.
func (q *Queue) resume(ctx context.Context, last *watch) *watch {
	if last.cancelled == nil || last.cancelled() {
		return nil
	}
	until := time.Now().Add(waitResync)
	for n := 0; time.Now().Before(until); n++ {
		w := q.openUnread(ctx, q.from, clientv3.WithRange(q.end), clientv3.WithRev(last.since+1))
		if w != nil {
			w.since = last.since // it tells of what came before its creation, too
			return w
		}
		if sleep(ctx, etcdkv.Pause(n, 0)) != nil {
			return nil
		}
	}
	return nil
}
