package queue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

const (
	// Settle and settleWait are how long a hold, or a wait in a crowd, must last before
	// our own key is watched. Most are shorter, and are spared the watch; and he who
	// waits finds out at the latest when it is his turn.
	Settle     = 250 * time.Millisecond
	settleWait = time.Second
)

// Await blocks until no older entry is left, or whatever else the entry's rule says, and
// returns the revision at which that was seen together with our own key: the proof of the
// grant (traps A6, B1, D1).
//
// It returns ErrEvicted when our key was deleted, lockerr.ErrNestedName when an older key shows
// that another name lies inside ours, and the cause of ctx when that ends. Our
// key stays in each case but the first.
func (q *Queue) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	if q.view != nil || e.ahead != nil && e.older <= q.shortQueue || e.rule.watchesAll() {
		rev, err := q.awaitInView(ctx, e)
		if !errors.Is(err, errCrowd) {
			return rev, err
		}
	}
	return q.awaitBehind(ctx, e)
}

// ownWatch is the watch on our own key: opened when settle has passed, and again
// whenever it ended.
//
// The first time it starts from the key's creation and needs no look: it will hear
// of everything, within the 100 ms that etcd takes for a watch on the past, which is
// soon enough for a rare event and saves a request. Later that past may be compacted;
// then it starts from now, and must be followed by a look. So must a doubtful one, and one that
// took long to be had: etcd may have been restored from a backup meanwhile, which has passed that
// revision without our key.
type ownWatch struct {
	*watch
	again  bool // it was opened before
	of     *mvccpb.KeyValue
	wide   bool // the whole queue is watched, not only our key
	due    *time.Timer
	failed int
}

func newOwnWatch(e *Entry, settle time.Duration) *ownWatch {
	return &ownWatch{
		of:  &mvccpb.KeyValue{Key: []byte(e.Key), CreateRevision: e.CreateRevision, Lease: int64(e.Lease)},
		due: time.NewTimer(settle),
	}
}

// open opens it, and tells whether a look is needed.
func (o *ownWatch) open(ctx context.Context, q *Queue) (look bool) {
	look = o.wide || o.again
	began := time.Now()
	switch {
	case o.wide:
		o.watch = q.open(ctx, q.from, clientv3.WithRange(q.end))
	case o.again:
		o.watch = q.openOn(ctx, o.of, clientv3.WithFilterPut())
	default:
		o.watch = q.openOn(ctx, o.of, clientv3.WithFilterPut(), clientv3.WithRev(o.of.CreateRevision+1))
	}
	o.again = true
	if o.watch == nil {
		o.due.Reset(etcdkv.Pause(o.failed, o.of.Lease))
		o.failed++
		return look
	}
	o.failed = 0
	return look || o.doubtful || time.Since(began) > Settle
}

func (o *ownWatch) ended() {
	o.watch.stop()
	o.watch = nil
	o.due.Reset(etcdkv.Pause(0, o.of.Lease))
}

func (o *ownWatch) stop() {
	o.due.Stop()
	o.watch.stop()
}

// look reads at one revision whether our own entry stands (ErrEvicted if not), and
// who is next ahead of it: nil when nobody is. It is linearizable.
func (q *Queue) look(ctx context.Context, e *Entry) (rev int64, ahead *mvccpb.KeyValue, err error) {
	_, err = q.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		if e.rule == nil {
			rev, ahead, err = q.lookAhead(ctx, e, 0)
		} else {
			rev, ahead, err = q.lookAround(ctx, e)
		}
		return err
	})
	return rev, ahead, err
}

// lookAhead is look for the plain rule, which etcd applies itself here: the youngest entry up to our
// own is our own, and the next one blocks it. Of that one it reads the key alone, which etcd has in memory, and
// not even its lease: of thousands that it has to sort, the values would all come from disk.
//
// Where a watch has told that the one ahead went at a revision, gone, what any member knows will
// do, if that is no older: that nobody older is left stays true once it is, and our own key is
// seen at the same revision. So the members need not agree on what is the latest first.
func (q *Queue) lookAhead(ctx context.Context, e *Entry, gone int64) (rev int64, ahead *mvccpb.KeyValue, err error) {
	opts := []clientv3.OpOption{clientv3.WithRange(q.end), clientv3.WithMaxCreateRev(e.CreateRevision),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(2), clientv3.WithKeysOnly()}
	if gone > 0 {
		opts = append(opts, clientv3.WithSerializable())
	}
	resp, err := q.kv.Get(ctx, q.from, opts...)
	if err != nil {
		return 0, nil, err
	}
	if resp.Header.Revision < gone { // the member that was asked is behind
		return q.lookAhead(ctx, e, 0)
	}
	q.size.Store(resp.Count)
	if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs) {
		return 0, nil, lockerr.ErrEvicted
	}
	return resp.Header.Revision, only(resp.Kvs[1:]), nil
}

// lookAround is look for the other rules, which cannot do without the values.
func (q *Queue) lookAround(ctx context.Context, e *Entry) (rev int64, ahead *mvccpb.KeyValue, err error) {
	others := []clientv3.OpOption{clientv3.WithRange(q.end)}
	if !admission.BlockedByYounger(e.rule.mode()) {
		others = append(others, clientv3.WithMaxCreateRev(e.CreateRevision-1))
	}
	resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key), clientv3.OpGet(q.from, others...)).Commit()
	if err != nil {
		return 0, nil, err
	}
	own := resp.Responses[0].GetResponseRange().Kvs
	if !e.standsIn(own) {
		return 0, nil, lockerr.ErrEvicted
	}
	ahead, err = e.blocker(own[0], resp.Responses[1].GetResponseRange().Kvs)
	return resp.Header.Revision, ahead, err
}

func (e *Entry) standsIn(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) > 0 && kvs[0].CreateRevision == e.CreateRevision
}
