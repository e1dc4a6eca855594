package queue

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// leader is the entry of a candidate that leads, as the rules see it. No successor key is written
// for it once it leads.
func (q *Queue) leader(ctx context.Context, e *Entry) (admission.Entry, error) {
	leader := candidate(e.Key)
	if !e.mayBeNamed() {
		return leader, nil
	}
	successors, err := q.readSuccessors(ctx)
	all, _ := q.candidates([]*mvccpb.KeyValue{{Key: []byte(e.Key), CreateRevision: e.CreateRevision}}, successors)
	return all[0], err
}

// checkAgain is the time after which the lease of a challenger that seemed to be dead is checked again.
const checkAgain = 500 * time.Millisecond

// AwaitChallenger blocks until a candidate preempts the leader with entry e, see [admission.Preempts]:
// it has been in the queue without interruption for delay, and lives. It returns early when ctx ends
// or etcd refuses. The queue must be of no other use.
func (q *Queue) AwaitChallenger(ctx context.Context, e *Entry, delay time.Duration,
	lives func(context.Context, clientv3.LeaseID) bool) (challenger *mvccpb.KeyValue, err error) {
	defer q.Close()
	leader, err := q.leader(ctx, e)
	if err != nil {
		return nil, err
	}
	if leader.Successor != 0 { // nothing to wait for: it is never preempted
		<-ctx.Done()
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
		for key, kv := range m.entries {
			if !admission.Preempts(candidate(key), leader) {
				continue
			}
			came, known := since[kv.CreateRevision]
			if !known {
				came = time.Now()
			}
			still[kv.CreateRevision] = came
			left := delay - time.Since(came)
			if left <= 0 {
				if lives(ctx, clientv3.LeaseID(kv.Lease)) {
					return kv, nil
				}
				left = checkAgain
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
