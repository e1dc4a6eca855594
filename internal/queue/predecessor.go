package queue

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
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
	line   *line
	entry  *Entry
	length *length                // learns what the looks find
	warn   func(*mvccpb.KeyValue) // is called with each entry that was read whole
	inbox  *inbox                 // of a marked entry; nil if there is none
	before predecessor
	theirs *follower // on the predecessor, by which a look is due from time to time
	own    follower  // on our own key
	turn   int64     // the revision of the message that the entry holds
	gone   int64     // the revision at which the predecessor was gone, if a watch has just reported it
}

// settleWait is how long a wait in a long queue lasts before our own key is watched. Shorter ones are
// spared the watch, and find out at the latest when they are to be granted.
const settleWait = time.Second

// newWait returns a wait, with the watch of an earlier one or a new follower.
func (l *line) newWait(e *Entry, theirs *follower, in *inbox, n *length, warn func(*mvccpb.KeyValue)) *wait {
	w := &wait{line: l, entry: e, inbox: in, length: n, warn: warn, before: predecessor{e.saw().ahead, e.CreateRevision}, theirs: theirs}
	w.own = newFollower(holding.seeded(e.Lease), settleWait, func(ctx context.Context, from int64) *watch {
		return l.open(ctx, e.Key, clientv3.WithFilterPut(), clientv3.WithRev(from))
	})
	w.own.resume = e.CreateRevision + 1
	w.theirs.open = func(ctx context.Context, _ int64) *watch {
		return l.openLasting(ctx, func(life context.Context) *watch { return l.openOn(life, w.before.KeyValue, e.rule.filter()...) })
	}
	return w
}

// await is Await by a watch on the predecessor.
func (w *wait) await(ctx context.Context) (int64, error) {
	defer w.own.close()
	what := opened
	if w.before.reportedBy(w.theirs.watch) {
		what = told
		if err := w.line.nested(w.before.KeyValue); err != nil {
			return 0, err
		}
	}
	w.theirs.begin(waiting.seeded(w.entry.Lease))
	for {
		if what != told {
			rev, err := w.look(ctx, what)
			if err != nil || w.before.KeyValue == nil {
				return rev, err
			}
		}
		var err error
		if what, err = w.next(ctx); err != nil || w.turn > 0 {
			return w.turn, err
		}
	}
}

// look reads until the watch is on the predecessor that stands. It leaves no predecessor when the
// entry is admitted.
func (w *wait) look(ctx context.Context, what news) (rev int64, err error) {
	for l, e := w.line, w.entry; ; what = opened {
		if w.before.KeyValue != nil && !w.theirs.on(w.before.KeyValue) && !w.before.reportedBy(w.theirs.watch) {
			w.theirs.stop()
			w.theirs.fired(ctx) // what happened before is read below
		}
		next, err := l.lookBehind(ctx, e, w.before.KeyValue, w.gone, w.length)
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
		if err := l.nested(next.KeyValue); err != nil {
			return 0, err
		}
		e.waitsFor(Obstacle{KV: next.KeyValue, Whole: known || e.rule != nil})
		if known {
			w.warn(next.KeyValue)
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
			return w.leftBy(), nil
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
	case resp, ok := <-w.inbox.told():
		w.inbox.heard(resp, ok)
		return w.hears(), nil
	case <-w.inbox.fires():
		what := w.inbox.fired(ctx)
		w.inbox.missed(what)
		if what == due {
			w.inbox.checked(false)
		}
	case <-ctx.Done():
		return told, context.Cause(ctx)
	}
	return told, nil
}

// grace is how long an entry waits for its turn once its predecessor is gone. Both events are of one
// revision, and come by two watches.
const grace = 2 * time.Millisecond

// leftBy takes in that the predecessor is gone. If that one was marked, its turn may be here at once.
func (w *wait) leftBy() news {
	_, tells := wire.MarkedOf(w.line.name, string(w.before.Key))
	w.before.KeyValue = nil
	if !tells || w.inbox.told() == nil {
		return opened
	}
	over := time.NewTimer(grace)
	defer over.Stop()
	select {
	case resp, ok := <-w.inbox.told():
		w.inbox.heard(resp, ok)
		w.hears()
	case <-over.C:
	}
	return opened // it holds by its turn, or looks
}

// hears takes in what came in the inbox.
func (w *wait) hears() news {
	rev, look := w.inbox.tells(w.entry)
	w.turn = rev
	if look {
		return opened
	}
	return told
}
