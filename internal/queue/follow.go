package queue

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Follow tells who is first in the queue, nil for nobody, and at which revision
// that was so: at once, and whenever another one is first or its value changed.
// Each change is told, in order. It goes on over lost watches, compactions and
// restarts of etcd (trap B7) until tell returns false (nil), ctx ends (its cause)
// or etcd refuses (its error).
func (q *Queue) Follow(ctx context.Context, tell func(first *mvccpb.KeyValue, rev int64) bool) error {
	f := follower{mirror: &mirror{}, ctx: ctx, queue: q, tell: tell}
	resync := time.NewTicker(waitResync)
	defer resync.Stop()
	for failed := 0; ; failed++ {
		more, err := f.follow(ctx, resync.C)
		if !more || err != nil {
			return err
		}
		if f.heard {
			failed, f.heard = 0, false
		}
		if err := sleep(ctx, pause(failed, 0)); err != nil {
			return err
		}
	}
}

// follower knows the whole queue as of one revision.
//
// It reads again from time to time, for a deletion that the watch never told (trap
// A21). What the watch has still to tell of the time before such a reading must not be
// jumped over; so a reading waits until the watch is past its revision, or has been
// silent for a while.
type follower struct {
	*mirror
	ctx   context.Context // of the Follow
	queue *Queue
	tell  func(*mvccpb.KeyValue, int64) bool
	told  bool
	last  *mvccpb.KeyValue // what was told
	heard bool             // a watch could be had
	again *mirror          // a reading that waits for the watch; nil if there is none
}

// silence is how long a watch must tell nothing until it is taken to have told all.
const silence = time.Second

// follow goes on until the watch ends; more says whether there should be another.
func (f *follower) follow(ctx context.Context, resync <-chan time.Time) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// First the watch, then the reading, so that nothing falls between them.
	events := f.queue.watchAll(ctx)
	f.heard = events != nil
	now, err := f.queue.read(ctx)
	if err != nil {
		return false, err
	}
	if more, err := f.take(now); !more || err != nil || events == nil {
		return more, err
	}
	silent := time.NewTimer(silence)
	defer silent.Stop()
	for {
		select {
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return true, nil
			}
			if more, err := f.apply(resp.Events); !more || err != nil {
				return more, err
			}
			silent.Reset(silence)
		case <-resync:
			if f.again, err = f.queue.read(ctx); err != nil {
				return false, err
			}
			silent.Reset(silence)
		case <-silent.C:
			if more, err := f.take(f.again); !more || err != nil {
				return more, err
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// take makes a reading what is known (trap B9: one revision for all that is told).
func (f *follower) take(r *mirror) (more bool, err error) {
	f.again = nil
	if r == nil || r.rev < f.rev {
		return true, nil
	}
	f.mirror = r
	return f.report()
}

// apply takes the changes that came after what is known, revision by revision.
func (f *follower) apply(events []*clientv3.Event) (more bool, err error) {
	for i, ev := range events {
		if f.again != nil && ev.Kv.ModRevision > f.again.rev {
			if more, err := f.take(f.again); !more || err != nil {
				return more, err
			}
		}
		if ev.Kv.ModRevision <= f.rev {
			continue
		}
		f.change(ev)
		if i+1 < len(events) && events[i+1].Kv.ModRevision == ev.Kv.ModRevision {
			continue // one transaction, one change
		}
		f.rev = ev.Kv.ModRevision
		if more, err := f.report(); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

// report tells who is first, if that is news.
func (f *follower) report() (more bool, err error) {
	first := f.first()
	if f.told && (first == nil) == (f.last == nil) && (first == nil || same(first, f.last) && string(first.Value) == string(f.last.Value)) {
		return true, nil
	}
	if first != nil {
		if err := f.queue.nested(first, nil); err != nil {
			return false, err
		}
	}
	if f.ctx.Err() != nil {
		return false, context.Cause(f.ctx)
	}
	f.told, f.last = true, first
	return f.tell(first, f.rev), nil
}

// watchAll watches the whole queue, from now on; nil when that cannot be had.
func (q *Queue) watchAll(ctx context.Context) clientv3.WatchChan {
	w := q.open(ctx, q.from, clientv3.WithRange(q.end))
	if w == nil {
		return nil
	}
	return w.events
}

// First reads who is first; nil for nobody.
func (q *Queue) First(ctx context.Context) (*mvccpb.KeyValue, int64, error) {
	resp, err := q.kv.Get(ctx, q.from, clientv3.WithRange(q.end),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	if err != nil {
		return nil, 0, err
	}
	if len(resp.Kvs) == 0 {
		return nil, resp.Header.Revision, nil
	}
	return resp.Kvs[0], resp.Header.Revision, q.nested(resp.Kvs[0], nil)
}
