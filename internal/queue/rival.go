package queue

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// rivals are those who want to take over from who leads by e.
func (m *mirror) rivals(e *Entry) []*mvccpb.KeyValue {
	own, _ := wire.Rank(e.Key)
	var all []*mvccpb.KeyValue
	for key, kv := range m.entries {
		if priority, takeover := wire.Rank(key); takeover && priority > own {
			all = append(all, kv)
		}
	}
	return all
}

// isMarked tells whether a leader was marked. Nobody marks it once it leads.
func (q *Queue) isMarked(ctx context.Context, e *Entry) (bool, error) {
	if !e.mayBeMarked() {
		return false, nil
	}
	marks, err := q.readMarks(ctx)
	own := map[string]*mvccpb.KeyValue{e.Key: {Key: []byte(e.Key), CreateRevision: e.CreateRevision}}
	return q.next(own, marks) != nil, err
}

// lookAgain is after what time a rival is asked about again who seemed to be dead.
const lookAgain = 500 * time.Millisecond

// AwaitRival blocks until somebody waits to take over from who leads by e, has done so for
// patience, and lives; or ctx ends, or etcd refuses. The queue must be of no other use.
func (q *Queue) AwaitRival(ctx context.Context, e *Entry, patience time.Duration,
	lives func(context.Context, clientv3.LeaseID) bool) (rival *mvccpb.KeyValue, err error) {
	defer q.Close()
	if marked, err := q.isMarked(ctx, e); err != nil {
		return nil, err
	} else if marked {
		<-ctx.Done() // the one who named this leader counts for more
		return nil, context.Cause(ctx)
	}
	resync := time.NewTicker(waitResync)
	defer resync.Stop()
	since := make(map[int64]time.Time) // by CreateRevision
	for failed := 0; ; {
		if err := q.openView(ctx, e); err != nil {
			return nil, err
		}
		var m *mirror
		var events clientv3.WatchChan
		wait := time.Duration(-1) // for ever
		if q.view != nil {
			m, events, failed = q.view.mirror, q.view.watch.events, 0
		} else {
			// No watch to be had; then looking again and again has to do.
			if m, err = q.read(ctx); err != nil {
				return nil, err
			}
			wait = etcdkv.Pause(failed, int64(e.Lease))
			failed++
		}
		still := make(map[int64]time.Time)
		for _, kv := range m.rivals(e) {
			came, known := since[kv.CreateRevision]
			if !known {
				came = time.Now()
			}
			still[kv.CreateRevision] = came
			left := patience - time.Since(came)
			if left <= 0 {
				if lives(ctx, clientv3.LeaseID(kv.Lease)) {
					return kv, nil
				}
				left = lookAgain
			}
			if wait < 0 || left < wait {
				wait = left
			}
		}
		since = still
		if err := q.awaitNews(ctx, events, resync.C, wait); err != nil {
			return nil, err
		}
	}
}

// awaitNews waits until the view may show something else, or for a time if that is not
// negative.
func (q *Queue) awaitNews(ctx context.Context, events clientv3.WatchChan, resync <-chan time.Time, wait time.Duration) error {
	var over <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case resp, ok := <-events:
		q.seen(resp, ok)
	case <-resync:
		q.Close()
	case <-over:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
