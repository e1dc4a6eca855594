package queue

import (
	"context"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// settle is how long a wait or a hold must last before our own key is watched.
	// Most are shorter, and are spared the watch.
	settle = 250 * time.Millisecond

	// waitResync and holdResync are how often we look for ourselves, in case a
	// watch has not told what it should have (trap A21).
	waitResync = 10 * time.Second
	holdResync = time.Minute
)

// Await blocks until no older entry is left, and returns the revision at which
// that was seen together with our own key: the proof of the grant (traps A6, B1).
//
// It returns ErrGone when our key was deleted, ErrNested when an older key shows
// that another name lies inside ours, and the cause of ctx when that ends. Our
// key stays in each case but the first.
func (q *Queue) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	var (
		ahead  = e.ahead // the youngest older entry; nil: not known
		seen   *mvccpb.KeyValue
		theirs *watch // on ahead
		own    = newOwnWatch(e)
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
			theirs = q.openOn(ctx, ahead)
		}
		rev, next, err := q.look(ctx, e)
		switch {
		case err != nil:
			return 0, err
		case next == nil:
			return rev, nil
		}
		if !same(next, seen) {
			if err := q.check(next); err != nil {
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

		select {
		case <-theirs.ch():
			// Deleted, or the watch ended, as after a compaction (trap A7): the place
			// is kept, and the look tells which.
			ahead = nil
			theirs.stop()
			theirs = nil
		case resp := <-own.ch():
			if deleted(resp, e.CreateRevision) {
				return 0, ErrGone
			}
			own.ended()
		case <-own.due.C:
			own.open(ctx, q)
		case <-resync.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Stay blocks while we hold: until our own key is gone (ErrGone), or ctx ends (its
// cause). A lease that is renewed says nothing of the key (trap C12).
func (q *Queue) Stay(ctx context.Context, e *Entry) error {
	own := newOwnWatch(e)
	defer own.stop()
	resync := time.NewTicker(holdResync)
	defer resync.Stop()
	for {
		select {
		case resp := <-own.ch():
			if deleted(resp, e.CreateRevision) {
				return ErrGone
			}
			own.ended()
			continue // the look comes after it was opened again
		case <-own.due.C:
			own.open(ctx, q)
		case <-resync.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := q.present(ctx, e); err != nil {
			return err
		}
	}
}

// ownWatch is the watch on our own key: opened when settle has passed, and again
// whenever it ended. After each opening the key must be looked at.
type ownWatch struct {
	*watch
	of     *mvccpb.KeyValue
	due    *time.Timer
	failed int
}

func newOwnWatch(e *Entry) *ownWatch {
	return &ownWatch{
		of:  &mvccpb.KeyValue{Key: []byte(e.Key), CreateRevision: e.CreateRevision, Lease: int64(e.Lease)},
		due: time.NewTimer(settle),
	}
}

func (o *ownWatch) open(ctx context.Context, q *Queue) {
	if o.watch = q.openOn(ctx, o.of); o.watch == nil {
		o.due.Reset(pause(o.failed, int64(o.of.Lease)))
		o.failed++
		return
	}
	o.failed = 0
}

func (o *ownWatch) ended() {
	o.watch.stop()
	o.watch = nil
	o.due.Reset(pause(0, int64(o.of.Lease)))
}

func (o *ownWatch) stop() {
	o.due.Stop()
	o.watch.stop()
}

// check looks at an entry that we are about to wait for. It counts, whatever it
// is, but not every kind will ever go.
func (q *Queue) check(ahead *mvccpb.KeyValue) error {
	if ahead.Lease == 0 {
		q.log.Warn("waiting for a key that has no lease: it stays until somebody deletes it",
			zap.String("name", q.name), zap.ByteString("key", ahead.Key), zap.Int64("create-revision", ahead.CreateRevision))
	}
	return q.nested(ahead, nil)
}

// look reads at one revision whether our own entry stands (ErrGone if not), and
// who is next ahead of it: nil when nobody is. It is linearizable.
func (q *Queue) look(ctx context.Context, e *Entry) (rev int64, ahead *mvccpb.KeyValue, err error) {
	_, err = retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(
			clientv3.OpGet(e.Key, clientv3.WithKeysOnly()),
			clientv3.OpGet(q.from, clientv3.WithRange(q.end), // not keys only: etcd leaves out the lease then
				clientv3.WithMaxCreateRev(e.CreateRevision-1),
				clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1)),
		).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return ErrGone
		}
		rev, ahead = resp.Header.Revision, youngest(resp.Responses[1].GetResponseRange().Kvs)
		return nil
	})
	return rev, ahead, err
}

// present reads whether our own entry stands: ErrGone if not.
func (q *Queue) present(ctx context.Context, e *Entry) error {
	_, err := retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, e.Key, clientv3.WithKeysOnly())
		if err == nil && !e.standsIn(resp.Kvs) {
			return ErrGone
		}
		return err
	})
	return err
}

func (e *Entry) standsIn(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) > 0 && kvs[0].CreateRevision == e.CreateRevision
}
