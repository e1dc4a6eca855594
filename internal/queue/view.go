package queue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// view is a mirror that one watch on the whole queue keeps up to date. What it shows
// was so in etcd at its revision, all of it, so that it can prove a grant without a
// read: it is one watch that has seen the older ones go and our own key stay. It is
// opened when a wait begins, and kept over the next ones; so a process that locks again
// and again among few others has nothing to ask but to enter and to leave.
//
// Each of n views hears of each change, n times the work for etcd when n grows. So for the
// plain rule it only hears of deletions: who comes later concerns nobody who waits, and who
// was there before is read by the transaction that enters. And in a crowd everybody
// watches the one ahead of him instead.
type view struct {
	*mirror
	watch *watch
	told  int  // how often the watch has told of changes
	goers bool // it tells of those who go, and the mirror shows who was there when we came
	keys  bool // the mirror shows keys only
	ahead bool // the entry is not written yet, and there is no mirror
}

// serves tells whether the view is one for an entry.
func (v *view) serves(e *Entry) bool { return v.goers == e.plain() }

// plain tells whether nothing about others matters to an entry but that older ones go.
func (e *Entry) plain() bool { return e.rule == nil && !e.candidate && !e.keeps }

// rebase has a view that does not hear of who comes, or was opened ahead, show what a
// transaction that entered has found: all who were there before.
func (q *Queue) rebase(older []*mvccpb.KeyValue, own *Entry, value string) {
	if q.view == nil || !q.view.goers && !q.view.ahead {
		return
	}
	m := &mirror{entries: make(map[string]*mvccpb.KeyValue, len(older)+1), rev: own.CreateRevision}
	for _, kv := range older {
		m.entries[string(kv.Key)] = kv
	}
	m.entries[own.Key] = own.kv(value)
	q.view.mirror, q.view.keys, q.view.ahead = m, q.view.goers, false
}

// closeStale closes a view that does not hear of who comes, or was opened ahead, as it cannot
// know who is ahead.
func (q *Queue) closeStale() {
	if q.view != nil && (q.view.goers || q.view.ahead) {
		q.closeView()
	}
}

// lags tells whether a reading shows what the watch should have told.
func (v *view) lags(m *mirror) bool {
	if !v.goers {
		return !m.equal(v.mirror)
	}
	for key, kv := range v.entries {
		if !same(kv, m.entries[key]) {
			return true
		}
	}
	return false
}

// moveOn gives up the view, and the stream that it hung on.
func (q *Queue) moveOn() {
	q.view.watch.moveOn()
	q.Close()
}

// ShortQueue is how many older entries there may be for a view to be opened. Measured on two cores,
// an acquisition of one of four processes costs 1.5 ms of processor time with views, and 1.8
// with everybody watching the one ahead; of one of eight 2.3 and 2.0.
const ShortQueue = 4

// crowded tells whether a queue of so many entries is too long for a view; a few more than
// one is opened for.
func (q *Queue) crowded(entries int) bool { return entries > q.shortQueue+3 }

var errCrowd = errors.New("too many for a view")

// Resting is how long a queue rests, after the last wait or hold, for the next one.
const Resting = time.Second

// openView opens a view for e if there is none; nil without an error when the watch cannot
// be had.
func (q *Queue) openView(ctx context.Context, e *Entry) error {
	if q.view != nil && q.view.serves(e) {
		return nil
	}
	q.closeView()
	w := q.openAll(ctx, e.plain())
	m, err := q.read(ctx)
	if err != nil || w == nil {
		w.stop()
		return err
	}
	q.closeBehind() // nobody reads what it tells
	q.view = &view{mirror: m, watch: w, goers: e.plain()}
	return nil
}

// openAll opens a view's watch.
func (q *Queue) openAll(ctx context.Context, goers bool) *watch {
	opts := []clientv3.OpOption{clientv3.WithRange(q.end)}
	if goers {
		opts = append(opts, clientv3.WithFilterPut())
	}
	return q.openLasting(ctx, func(life context.Context) *watch { return q.open(life, q.from, opts...) })
}

// Viewed tells whether there is a view, whose watch wants to be heard.
func (q *Queue) Viewed() bool { return q.view != nil }

// Watches tells whether there is any watch that is kept between calls.
func (q *Queue) Watches() bool { return q.view != nil || q.behind != nil }

// Close ends what the queue keeps between calls.
func (q *Queue) Close() {
	q.closeBehind()
	q.closeView()
}

func (q *Queue) closeView() {
	if q.view != nil {
		q.view.watch.stop()
		q.view = nil
	}
}

// seen takes in what the view's watch has told.
func (q *Queue) seen(resp clientv3.WatchResponse, ok bool) {
	if !ok || resp.Err() != nil {
		q.closeView()
		return
	}
	q.view.told++
	q.view.apply(resp.Events)
}

// shows tells whether the view knows of an entry and shows it. One that should be there
// and is not was deleted; before that is said, etcd is asked.
func (q *Queue) shows(ctx context.Context, e *Entry) (bool, error) {
	if q.view.rev < e.CreateRevision || !q.view.goers && q.view.rev < e.modRevision.Load() {
		return false, nil // it has not got so far yet
	}
	if own := q.view.entries[e.Key]; own != nil && own.CreateRevision == e.CreateRevision {
		return true, nil
	}
	if _, err := q.stands(ctx, e, false); err != nil {
		return false, err
	}
	q.closeView() // it is wrong
	return false, nil
}

// awaitInView is Await by the view; errCrowd when it should be done otherwise.
func (q *Queue) awaitInView(ctx context.Context, e *Entry) (int64, error) {
	var (
		seen   *mvccpb.KeyValue
		again  = firstResync
		resync = time.NewTimer(again)
		lag    <-chan time.Time // it is due that the watch tells what a reading has shown
		told   int              // by the watch when the reading showed more
	)
	defer resync.Stop()
	for failed := 0; ; {
		if q.life.Err() != nil {
			return 0, context.Cause(q.life) // ctx may end a moment later
		}
		if err := q.openView(ctx, e); err != nil {
			return 0, err
		}
		if q.view == nil {
			// No watch to be had, be it for want of permission or because it hangs. Then
			// looking again and again has to do.
			rev, ahead, err := q.look(ctx, e)
			if err != nil || ahead == nil {
				return rev, err
			}
			e.waitsFor(Obstacle{KV: ahead, Whole: e.rule != nil})
			if err := sleep(ctx, etcdkv.Pause(failed, int64(e.Lease))); err != nil {
				return 0, err
			}
			failed++
			continue
		}
		shown, err := q.shows(ctx, e)
		if err != nil {
			return 0, err
		}
		if q.view == nil {
			continue
		}
		if shown {
			failed = 0
			next, err := q.view.blocker(e)
			if err != nil {
				return 0, err
			}
			if next == nil {
				return q.view.rev, nil
			}
			e.waitsFor(q.view.obstacle(e, next))
			if !same(next, seen) {
				if err := q.nested(next, nil); err != nil {
					return 0, err
				}
				if !q.view.keys {
					q.warn(next)
				}
				seen = next
			}
			if q.crowded(len(q.view.entries)) && !e.rule.watchesAll() {
				q.closeView()
				return 0, errCrowd
			}
		}
		select {
		case resp, ok := <-q.view.watch.events:
			q.seen(resp, ok)
		case <-resync.C:
			again = min(2*again, waitResync)
			resync.Reset(again)
			m, err := q.read(ctx)
			if err != nil {
				return 0, err
			}
			if m.rev >= q.view.rev {
				lag = nil
				if q.view.lags(m) {
					told, lag = q.view.told, time.After(patience)
				}
				q.view.mirror, q.view.keys = m, false
				seen = nil
			}
		case <-lag:
			if q.view.told == told {
				q.moveOn()
			}
			lag = nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// stayInView is Stay for as long as there is a view; nil when there is none any more.
func (q *Queue) stayInView(ctx context.Context, e *Entry, kept <-chan struct{}, company func()) error {
	resync := time.NewTicker(holdResync)
	defer resync.Stop()
	keeping := false
	for q.view != nil {
		if q.life.Err() != nil {
			<-ctx.Done() // in a moment
			return context.Cause(ctx)
		}
		shown, err := q.shows(ctx, e)
		if err != nil {
			return err
		}
		if q.view == nil {
			break
		}
		if shown && keeping && len(q.view.entries) > 1 {
			company()
		}
		if q.crowded(len(q.view.entries)) {
			q.closeView()
			break
		}
		select {
		case resp, ok := <-q.view.watch.events:
			q.seen(resp, ok)
		case <-kept:
			if q.view.goers { // it would not hear of company
				q.closeView()
			}
			kept, keeping = nil, true
		case <-resync.C:
			if _, err := q.stands(ctx, e, false); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Rest waits for a while until wake, or the end of life, while nobody waits or holds; it
// keeps the view up to date meanwhile. When it returns false nothing woke it, and the
// view is closed.
func (q *Queue) Rest(wake <-chan struct{}) (woken bool) {
	select {
	case <-q.rested: // by a timer that was stopped in the instant in which it fired
	default:
	}
	q.resting.Set(&q.rest, q)
	defer q.rest.Stop()
	for {
		var events clientv3.WatchChan
		if q.view != nil {
			events = q.view.watch.events
		}
		select {
		case resp, ok := <-events:
			q.seen(resp, ok)
		case <-wake:
			return true
		case <-q.life.Done():
			q.Close()
			return false
		case <-q.rested:
			q.Close()
			return false
		}
	}
}

// Fire ends the rest.
func (q *Queue) Fire() {
	select {
	case q.rested <- struct{}{}:
	default:
	}
}
