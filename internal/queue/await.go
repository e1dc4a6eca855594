package queue

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Settle and settleWait are how long a hold, or a wait in a crowd, must last before
	// our own key is watched. Most are shorter, and are spared the watch; and he who
	// waits finds out at the latest when it is his turn.
	Settle     = 250 * time.Millisecond
	settleWait = time.Second

	// waitResync and holdResync are how often we look for ourselves, in case a
	// watch has not told what it should have (trap A21).
	waitResync = 10 * time.Second
	holdResync = time.Minute
)

// Await blocks until no older entry is left, or whatever else the entry's rule says, and
// returns the revision at which that was seen together with our own key: the proof of the
// grant (traps A6, B1, D1).
//
// It returns ErrGone when our key was deleted, ErrNested when an older key shows
// that another name lies inside ours, and the cause of ctx when that ends. Our
// key stays in each case but the first.
func (q *Queue) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	if q.view != nil || e.ahead != nil && e.older < crowd/2 || e.rule.anyOf() {
		rev, err := q.awaitInView(ctx, e)
		if !errors.Is(err, errCrowd) {
			return rev, err
		}
	}
	return q.awaitBehind(ctx, e)
}

// awaitBehind is Await by a watch on the one next ahead: the one that has to go, or to
// let us in by what it becomes.
func (q *Queue) awaitBehind(ctx context.Context, e *Entry) (int64, error) {
	var (
		ahead  = e.ahead // the youngest older entry; nil: not known
		seen   *mvccpb.KeyValue
		theirs *watch // on ahead
		own    = newOwnWatch(e, settleWait)
		resync = time.NewTicker(waitResync)
		failed int
	)
	defer resync.Stop()
	defer own.stop()
	defer func() { theirs.stop() }()

	// Watches only wake us. What we then know, we know from a look.
	for {
		if ahead != nil && !theirs.on(ahead) {
			theirs.stop()
			theirs = q.openOn(ctx, ahead, e.rule.filter()...)
		}
		rev, next, err := q.lookBehind(ctx, e, ahead)
		switch {
		case err != nil:
			return 0, err
		case next == nil:
			return rev, nil
		case IsMark(next):
			if next, err = q.pastMark(ctx, next); err != nil {
				return 0, err
			}
			if next == nil {
				ahead = nil
				continue
			}
		}
		if !same(next, seen) {
			if err := q.check(ctx, next); err != nil {
				return 0, err
			}
			seen = next
		}
		switch {
		case !same(next, ahead):
			ahead = next // watch that one, then look again for what was missed
			continue
		case theirs == nil:
			if err := sleep(ctx, pause(failed, int64(e.Lease))); err != nil {
				return 0, err
			}
			failed++
			continue
		}
		failed = 0

	wait:
		select {
		case <-theirs.ch():
			// Deleted, or the watch ended, as after a compaction (trap A7): the place
			// is kept, and the look tells which.
			ahead = nil
			theirs.stop()
			theirs = nil
		case resp := <-own.ch():
			if deleted(resp, e) {
				return 0, ErrGone
			}
			own.ended()
		case <-own.due.C:
			if !own.open(ctx, q) {
				goto wait
			}
		case <-resync.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// ownWatch is the watch on our own key: opened when settle has passed, and again
// whenever it ended.
//
// The first time it starts from the key's creation and needs no look: it will hear
// of everything, within the 100 ms that etcd takes for a watch on the past, which is
// soon enough for a rare event and saves a request. Later that past may be compacted;
// then it starts from now, and must be followed by a look.
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
		o.due.Reset(pause(o.failed, o.of.Lease))
		o.failed++
		return look
	}
	o.failed = 0
	return look
}

func (o *ownWatch) ended() {
	o.watch.stop()
	o.watch = nil
	o.due.Reset(pause(0, o.of.Lease))
}

func (o *ownWatch) stop() {
	o.due.Stop()
	o.watch.stop()
}

// check looks at an entry that we are about to wait for. It counts, whatever it
// is, but not every kind will ever go.
func (q *Queue) check(ctx context.Context, ahead *mvccpb.KeyValue) error {
	if ahead.Lease == 0 {
		q.log.Warn("waiting for a key that has no lease: it stays until somebody deletes it",
			zap.String("name", q.name), zap.ByteString("key", ahead.Key), zap.Int64("create-revision", ahead.CreateRevision))
	}
	return q.nested(ahead, nil)
}

// lookBehind is look, but cheaper where ahead is known to be the next one ahead: as
// long as it stands, it is that still.
func (q *Queue) lookBehind(ctx context.Context, e *Entry, ahead *mvccpb.KeyValue) (rev int64, next *mvccpb.KeyValue, err error) {
	if ahead == nil || e.rule != nil {
		return q.look(ctx, e)
	}
	_, err = q.writer.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key, clientv3.WithKeysOnly()), clientv3.OpGet(string(ahead.Key))).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return ErrGone
		}
		next = youngest(resp.Responses[1].GetResponseRange().Kvs)
		return nil
	})
	if err != nil || same(next, ahead) {
		return 0, next, err
	}
	return q.look(ctx, e)
}

// look reads at one revision whether our own entry stands (ErrGone if not), and
// who is next ahead of it: nil when nobody is. It is linearizable.
func (q *Queue) look(ctx context.Context, e *Entry) (rev int64, ahead *mvccpb.KeyValue, err error) {
	_, err = q.writer.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key, e.rule.ownRead()...), clientv3.OpGet(q.from, q.looked(e)...)).Commit()
		if err != nil {
			return err
		}
		own, others := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
		if !e.standsIn(own) {
			return ErrGone
		}
		rev = resp.Header.Revision
		if e.rule == nil {
			ahead = youngest(others)
			return nil
		}
		ahead, err = e.blocker(own[0], others)
		return err
	})
	return rev, ahead, err
}

// looked is what look reads of the others. Not keys only: etcd leaves out the lease then.
func (q *Queue) looked(e *Entry) []clientv3.OpOption {
	opts := []clientv3.OpOption{clientv3.WithRange(q.end)}
	switch {
	case e.rule == nil:
		return append(opts, clientv3.WithMaxCreateRev(e.CreateRevision-1),
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	case e.rule.younger:
		return opts
	default:
		return append(opts, clientv3.WithMaxCreateRev(e.CreateRevision-1))
	}
}

func (e *Entry) standsIn(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) > 0 && kvs[0].CreateRevision == e.CreateRevision
}
