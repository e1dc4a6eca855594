package queue

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// In a crowd everybody watches the one next ahead of him, who has to go first. Those who
// come again and again mostly come in the same order: then the one ahead has the same key as
// last time, and the watch on that key, kept since then, tells of everything that has happened
// to it. So all that such a wait asks etcd for is the read in the end, which proves the grant.

// ahead is the entry next ahead of ours, as it is known to have stood, with ours, at a
// revision.
type ahead struct {
	*mvccpb.KeyValue // nil: it is not known who that is
	at               int64
}

// toldBy tells whether a watch tells of everything that happened to the entry since.
func (a ahead) toldBy(w *watch) bool {
	return a.KeyValue != nil && w != nil && w.of != nil && string(w.of.Key) == string(a.Key) && w.since <= a.at
}

// goneBy is the revision at which it was deleted, or changed, as an answer of a watch on its
// key says; 0 if it does not.
func (a ahead) goneBy(resp clientv3.WatchResponse) int64 {
	for _, ev := range resp.Events {
		if ev.Kv.ModRevision > a.at {
			return ev.Kv.ModRevision
		}
	}
	return 0
}

// heard takes note of what a watch has told, and will not tell again.
func (w *watch) heard(resp clientv3.WatchResponse) {
	for _, ev := range resp.Events {
		w.since = max(w.since, ev.Kv.ModRevision)
	}
}

// awaitBehind is Await by a watch on the one next ahead: the one that has to go, or to
// let us in by what it becomes.
func (q *Queue) awaitBehind(ctx context.Context, e *Entry) (int64, error) {
	var (
		before = ahead{e.ahead, e.CreateRevision}
		theirs = q.takeBehind(e)
		seen   *mvccpb.KeyValue
		own    = newOwnWatch(e, settleWait)
		resync = time.NewTicker(waitResync)
		look   = !before.toldBy(theirs) // who is ahead is to be found out
		failed int
		gone   int64 // the revision at which the one ahead went, if a watch has just told
	)
	defer resync.Stop()
	defer own.stop()
	defer func() { q.keepBehind(e, theirs) }()

	if !look {
		if err := q.nested(before.KeyValue, nil); err != nil {
			return 0, err
		}
	}
	// Watches only wake us. What we then know, we know from a look.
	for {
		if before.KeyValue != nil && !theirs.on(before.KeyValue) && !before.toldBy(theirs) {
			theirs.stop()
			theirs = q.openBehind(ctx, e, before.KeyValue)
			look = true // what was missed
		}
		if look {
			rev, next, err := q.lookBehind(ctx, e, before.KeyValue, gone)
			gone = 0
			switch {
			case err != nil:
				return 0, err
			case next == nil:
				return rev, nil
			}
			if !same(next, seen) {
				if err := q.nested(next, nil); err != nil {
					return 0, err
				}
				seen = next
			}
			known := same(next, before.KeyValue)
			e.waitsFor(Obstacle{KV: next, Whole: known || e.rule != nil})
			before = ahead{next, rev}
			switch {
			case known && theirs == nil:
				if err := sleep(ctx, etcdkv.Pause(failed, int64(e.Lease))); err != nil {
					return 0, err
				}
				failed++
				continue
			case known:
				q.warn(next)
			case !before.toldBy(theirs):
				continue // watch that one, then look again for what was missed
			}
		}
		failed, look = 0, true

	wait:
		select {
		case resp, ok := <-theirs.ch():
			theirs.heard(resp)
			switch {
			case !ok || resp.Err() != nil:
				// It ended, as after a compaction (trap A7): the place is kept, and the look
				// tells.
				theirs.stop()
				theirs = nil
			default:
				if gone = before.goneBy(resp); gone == 0 {
					goto wait
				}
			}
			before.KeyValue = nil
		case resp := <-own.ch():
			if deleted(resp, e) {
				return 0, lockerr.ErrEvicted
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

// openBehind watches the one ahead; for the next waits too, if it is the plain rule.
func (q *Queue) openBehind(ctx context.Context, e *Entry, of *mvccpb.KeyValue) *watch {
	if e.rule != nil {
		return q.openOn(ctx, of, e.rule.filter()...)
	}
	return q.openLasting(ctx, func(life context.Context) *watch { return q.openOn(life, of, e.rule.filter()...) })
}

// takeBehind is the watch that an earlier wait has left; nil if there is none of use.
func (q *Queue) takeBehind(e *Entry) *watch {
	if e.rule != nil {
		return nil
	}
	w := q.behind
	q.behind = nil
	return w
}

// keepBehind leaves a watch to the next wait.
func (q *Queue) keepBehind(e *Entry, w *watch) {
	if w == nil || e.rule != nil || q.life.Err() != nil {
		w.stop()
		return
	}
	q.behind.stop()
	q.behind = w
}

// closeBehind ends the watch that was left.
func (q *Queue) closeBehind() {
	q.behind.stop()
	q.behind = nil
}

// warn tells of an entry that we wait for. It counts, whatever it is, but not every kind will
// ever go.
func (q *Queue) warn(ahead *mvccpb.KeyValue) {
	if ahead.Lease == 0 && q.warned != ahead.CreateRevision {
		q.warned = ahead.CreateRevision
		q.log.Warn("waiting for a key that has no lease: it stays until somebody deletes it",
			zap.String("name", q.name), zap.ByteString("key", ahead.Key), zap.Int64("create-revision", ahead.CreateRevision))
	}
}

// lookBehind is look, but cheaper where before is known to be the next one ahead: as
// long as it stands, it is that still. It is read with all that is to be known of it. And
// cheaper where the one ahead is known to have gone.
func (q *Queue) lookBehind(ctx context.Context, e *Entry, before *mvccpb.KeyValue, gone int64) (rev int64, next *mvccpb.KeyValue, err error) {
	if gone > 0 && e.rule == nil {
		_, err = q.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
			rev, next, err = q.lookAhead(ctx, e, gone)
			return err
		})
		return rev, next, err
	}
	if before == nil || e.rule != nil {
		return q.look(ctx, e)
	}
	_, err = q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(clientv3.OpGet(e.Key, clientv3.WithKeysOnly()), clientv3.OpGet(string(before.Key))).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return lockerr.ErrEvicted
		}
		rev, next = resp.Header.Revision, only(resp.Responses[1].GetResponseRange().Kvs)
		return nil
	})
	if err != nil || same(next, before) {
		return rev, next, err
	}
	return q.look(ctx, e)
}
