package queue

import (
	"context"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// In a long queue each entry watches its predecessor, which has to go first. Sessions that come
// again and again mostly come in the same order. Then the predecessor has the same key as last time,
// and the watch on that key, kept since then, has reported everything that happened to it. The only
// request of such a wait is the read at its end, which proves the grant.

// reportedBy reports whether a watch reports everything that happened to the entry since it was seen.
func (p predecessor) reportedBy(w *watch) bool {
	return p.KeyValue != nil && w != nil && w.of != nil && string(w.of.Key) == string(p.Key) && w.since <= p.at
}

// goneBy returns the revision at which the entry was deleted or changed, by the events of a watch on
// its key, or 0.
func (p predecessor) goneBy(events []*clientv3.Event) int64 {
	for _, ev := range events {
		if ev.Kv.ModRevision > p.at {
			return ev.Kv.ModRevision
		}
	}
	return 0
}

// wait is a wait by a watch on the predecessor. The watches only wake it. A look shows what is true
// then.
type wait struct {
	queue  *Queue
	entry  *Entry
	before predecessor
	theirs *follower // on the predecessor, by which a look is due from time to time
	own    follower  // on our own key
	gone   int64     // the revision at which the predecessor was gone, if a watch has just reported it
}

// settleWait is how long a wait in a long queue lasts before our own key is watched. Shorter ones are
// spared the watch, and find out at the latest when they are to be granted.
const settleWait = time.Second

// awaitPredecessor is Await by a watch on the predecessor.
func (q *Queue) awaitPredecessor(ctx context.Context, e *Entry) (int64, error) {
	w := &wait{queue: q, entry: e, before: predecessor{e.ahead, e.CreateRevision}, theirs: q.takeTheirs(e)}
	w.own = newFollower(holding.seeded(e.Lease), settleWait, func(ctx context.Context, from int64) *watch {
		return q.open(ctx, e.Key, clientv3.WithFilterPut(), clientv3.WithRev(from))
	})
	w.own.resume = e.CreateRevision + 1
	w.theirs.open = func(ctx context.Context, _ int64) *watch {
		return q.openLasting(ctx, func(life context.Context) *watch { return q.openOn(life, w.before.KeyValue, e.rule.filter()...) })
	}
	defer w.own.close()
	defer func() { q.keepTheirs(e, w.theirs) }()
	what := opened
	if w.before.reportedBy(w.theirs.watch) {
		what = told
		if err := q.nested(w.before.KeyValue, nil); err != nil {
			return 0, err
		}
	}
	w.theirs.begin(waiting.seeded(e.Lease))
	for {
		if what != told {
			rev, err := w.look(ctx, what)
			if err != nil || w.before.KeyValue == nil {
				return rev, err
			}
		}
		var err error
		if what, err = w.next(ctx); err != nil {
			return 0, err
		}
	}
}

// look reads until the watch is on the predecessor that stands. It leaves no predecessor when the
// entry is admitted.
func (w *wait) look(ctx context.Context, what news) (rev int64, err error) {
	for q, e := w.queue, w.entry; ; what = opened {
		if w.before.KeyValue != nil && !w.theirs.on(w.before.KeyValue) && !w.before.reportedBy(w.theirs.watch) {
			w.theirs.stop()
			w.theirs.fired(ctx) // what happened before is read below
		}
		next, err := q.lookBehind(ctx, e, w.before.KeyValue, w.gone)
		if err != nil {
			return 0, err
		}
		known := same(next.KeyValue, w.before.KeyValue)
		if what == due {
			w.theirs.checked(!known)
		}
		w.before, w.gone = next, 0
		if next.KeyValue == nil {
			return next.at, nil
		}
		if err := q.nested(next.KeyValue, nil); err != nil {
			return 0, err
		}
		e.waitsFor(Obstacle{KV: next.KeyValue, Whole: known || e.rule != nil})
		if known {
			q.warn(next.KeyValue)
		}
		if known || w.theirs.late || next.reportedBy(w.theirs.watch) {
			return 0, nil
		}
	}
}

// next blocks until there is news: opened or due if a look has to follow.
func (w *wait) next(ctx context.Context) (news, error) {
	select {
	case resp, ok := <-w.theirs.ch():
		w.theirs.heard(resp, ok)
		if w.gone = w.before.goneBy(w.theirs.events); w.gone > 0 {
			w.before.KeyValue = nil
			return opened, nil
		}
		if w.theirs.watch != nil && !w.theirs.on(w.before.KeyValue) && !w.before.reportedBy(w.theirs.watch) {
			return opened, nil // it was late, and is on the one before this predecessor
		}
	case <-w.theirs.c:
		what := w.theirs.fired(ctx)
		if what == silent {
			w.theirs.leave()
			return told, nil
		}
		return what, nil
	case resp, ok := <-w.own.ch():
		w.own.heard(resp, ok)
		if deleted(w.own.events, w.entry) {
			return told, lockerr.ErrEvicted
		}
	case <-w.own.c:
		what := w.own.fired(ctx)
		if w.own.watch != nil {
			w.own.timer.Stop() // each look reads our own key, too
		}
		if what != told {
			return opened, nil
		}
	case <-ctx.Done():
		return told, context.Cause(ctx)
	}
	return told, nil
}

// takeTheirs returns the watch that an earlier wait has kept, or one that is not open.
func (q *Queue) takeTheirs(e *Entry) *follower {
	f := q.theirs
	if f == nil || e.rule != nil {
		own := newFollower(waiting, 0, nil)
		return &own
	}
	q.theirs = nil
	return f
}

// keepTheirs keeps a watch for the next wait, unless it is late.
func (q *Queue) keepTheirs(e *Entry, f *follower) {
	if f.watch == nil || f.late || e.rule != nil {
		f.close()
		return
	}
	q.closeTheirs()
	f.timer.Stop()
	q.theirs = f
}

// closeTheirs closes the watch that was kept.
func (q *Queue) closeTheirs() {
	if q.theirs != nil {
		q.theirs.close()
		q.theirs = nil
	}
}

// warn logs an entry that we wait for if it has no lease. It counts like any other, but nothing may
// ever delete it.
func (q *Queue) warn(ahead *mvccpb.KeyValue) {
	if ahead.Lease == 0 && q.warned != ahead.CreateRevision {
		q.warned = ahead.CreateRevision
		q.log.Warn("waiting for a key that has no lease: it stays until it is deleted",
			zap.String("name", q.name), zap.ByteString("key", ahead.Key), zap.Int64("create-revision", ahead.CreateRevision))
	}
}

// lookBehind is look with less work for etcd, where possible. Once a watch has reported that the
// predecessor is gone, any member may answer. While before stands, it is the predecessor still, and
// is read with its value and lease.
func (q *Queue) lookBehind(ctx context.Context, e *Entry, before *mvccpb.KeyValue, gone int64) (predecessor, error) {
	switch {
	case e.rule != nil || before == nil && gone == 0:
		return q.look(ctx, e)
	case before == nil:
		return ask(ctx, q.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) { return q.lookAhead(ctx, e, gone) })
	}
	next, err := ask(ctx, q.shared, int64(e.Lease), func(ctx context.Context) (predecessor, error) {
		_, kvs, rev, err := q.besides(ctx, e, clientv3.OpGet(e.Key, clientv3.WithKeysOnly()), clientv3.OpGet(string(before.Key)))
		return predecessor{only(kvs), rev}, err
	})
	if err != nil || same(next.KeyValue, before) {
		return next, err
	}
	return q.look(ctx, e)
}
