package queue

import (
	"context"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
)

// leader returns the entry of a candidate that leads, as the rules see it. No successor key is written
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

// checkAgain is the time after which the lease of a challenger that seemed dead is checked again.
const checkAgain = 500 * time.Millisecond

// AwaitChallenger blocks until a candidate preempts the leader with entry e, see [admission.Preempts].
// The candidate has been in the queue without interruption for delay, and lives. The error is the cause
// of ctx, or what etcd refuses.
func (q *Queue) AwaitChallenger(ctx context.Context, e *Entry, delay time.Duration,
	lives func(context.Context, clientv3.LeaseID) bool) (challenger *mvccpb.KeyValue, err error) {
	leader, err := q.leader(ctx, e)
	if err != nil {
		return nil, err
	}
	if leader.Successor != 0 { // it is never preempted
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	c := q.newCache(q.from, q.end, false, waiting.seeded(e.Lease))
	defer c.close()
	wake := make(chan struct{}, 1)
	alarm := time.AfterFunc(math.MaxInt64, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer alarm.Stop()
	since := make(map[int64]time.Time) // by CreateRevision
	for {
		if _, err := c.next(ctx, wake); err != nil {
			return nil, err
		}
		still := make(map[int64]time.Time)
		wait := time.Duration(math.MaxInt64)
		for key, kv := range c.entries {
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
			wait = min(wait, left)
		}
		since = still
		alarm.Reset(wait)
	}
}
