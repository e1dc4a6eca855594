package queue

import (
	"cmp"
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Head is who is first in a queue, as it is in etcd at one revision.
type Head struct {
	First *mvccpb.KeyValue // nil: nobody
	Rev   int64
	// Since is a revision before which First was not first, as late as is known: with a
	// watch that is the revision at which its predecessor was deleted.
	Since int64
	// Timeline is that of the revisions, see package timeline.
	Timeline int

	// Unconfirmed and At are set, and known, by the user of the queue: whether First may have
	// given up, and when the head was read. Of two heads of one revision the later one counts.
	Unconfirmed bool
	At          time.Time
}

// Same tells whether two heads are of one entry, or of none, with one value.
func (h Head) Same(o Head) bool {
	if h.First == nil || o.First == nil {
		return h.First == o.First
	}
	if h.Unconfirmed != o.Unconfirmed {
		return false
	}
	return same(h.First, o.First) && string(h.First.Value) == string(o.First.Value)
}

// News tells whether an observer that was told another head is to be told this one. It is not
// told an earlier head, nor the same one again, nor an entry that was gone already when the other
// head was read: a watch may not have been told of its deletion (trap A21). told is nil before its
// first.
func (h Head) News(told *Head) bool {
	return told == nil || h.after(told) && !h.Same(*told) && !h.gone(told)
}

// gone tells whether the first one had left the queue when another head of the timeline was read:
// that one was the oldest then, or there was none.
func (h Head) gone(o *Head) bool {
	switch {
	case h.First == nil || h.Timeline != o.Timeline:
		return false
	case o.First == nil:
		return h.First.CreateRevision <= o.Rev
	default:
		return h.First.CreateRevision < o.First.CreateRevision
	}
}

// after tells whether a head was read later than another one.
func (h Head) after(o *Head) bool {
	return cmp.Or(cmp.Compare(h.Timeline, o.Timeline), cmp.Compare(h.Rev, o.Rev), h.At.Compare(o.At)) > 0
}

// Size is the number of bytes that the head keeps in memory, roughly.
func (h Head) Size() int {
	if h.First == nil {
		return 0
	}
	return len(h.First.Key) + len(h.First.Value)
}

// Follow tells who is first in the queue: at once, and whenever another one is first or
// its value changed.
// Each change is told, in order. It goes on over lost watches, compactions and
// restarts of etcd (trap B7) until tell returns false (nil), ctx ends (its cause)
// or etcd refuses (its error).
func (q *Queue) Follow(ctx context.Context, tell func(first *mvccpb.KeyValue, rev int64) bool) error {
	return q.FollowHeads(ctx, func(h Head) bool { return tell(h.First, h.Rev) })
}

// FollowHeads is Follow that tells since when the first one is, too.
func (q *Queue) FollowHeads(ctx context.Context, tell func(Head) bool) error {
	var last *Head
	return q.FollowReadings(ctx, func(h Head) bool {
		if last != nil && h.Same(*last) {
			return true
		}
		last = &h
		return tell(h)
	})
}

// FollowReadings is like FollowHeads, but also reports the head after each reading of the queue,
// changed or not: events may have been skipped, and the user of the queue may know more of an
// entry than before.
func (q *Queue) FollowReadings(ctx context.Context, tell func(Head) bool) error {
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
		if err := sleep(ctx, etcdkv.Pause(failed, 0)); err != nil {
			return err
		}
	}
}

// follower knows the whole queue as of one revision. In another timeline it begins again, with
// another watch: the one that it has would wait for the revisions of the timeline before.
//
// It reads again from time to time, for a deletion that the watch never told (trap
// A21). What the watch has still to tell of the time before such a reading must not be
// jumped over; so a reading waits until the watch is past its revision, or has been
// silent for a while.
type follower struct {
	*mirror
	ctx    context.Context // of the Follow
	queue  *Queue
	tell   func(Head) bool
	told   bool
	last   *mvccpb.KeyValue // what was told
	since  int64            // that of last
	saw    int64            // the revision of the last reading that was taken
	missed bool             // a key came anew without having gone: that was not told
	heard  bool             // a watch could be had
	again  *mirror          // a reading that waits for the watch; nil if there is none
}

// silence is how long a watch must tell nothing until it is taken to have told all.
const silence = time.Second

// follow goes on until the watch ends; more says whether there should be another.
func (f *follower) follow(ctx context.Context, resync <-chan time.Time) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replaced := f.queue.tracker.Changed()
	// First the watch, then the reading, so that nothing falls between them.
	w := f.queue.watchAll(ctx)
	f.heard = w != nil
	now, err := f.queue.read(ctx)
	if err != nil {
		return false, err
	}
	if more, err := f.take(now); !more || err != nil || w == nil {
		return more, err
	}
	silent := time.NewTimer(silence)
	defer silent.Stop()
	for {
		select {
		case resp, ok := <-w.ch():
			if !ok {
				if w = f.queue.resume(ctx, w); w != nil {
					continue
				}
			}
			if !ok || resp.Err() != nil {
				return true, nil
			}
			if f.outdated() { // the watch may tell of the timeline before
				return true, nil
			}
			w.heard(resp)
			if more, err := f.apply(resp.Events); !more || err != nil {
				return more, err
			}
			silent.Reset(silence)
		case <-resync:
			if f.again, err = f.queue.read(ctx); err != nil {
				return false, err
			}
			if f.outdated() {
				return true, nil
			}
			silent.Reset(silence)
		case <-silent.C:
			if more, err := f.take(f.again); !more || err != nil {
				return more, err
			}
		case <-replaced:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// outdated tells whether there is another timeline than that of what is known.
func (f *follower) outdated() bool { return f.timeline != f.queue.tracker.Number() }

// take makes a reading what is known (trap B9: one revision for all that is told).
func (f *follower) take(r *mirror) (more bool, err error) {
	f.again = nil
	if r == nil || r.timeline == f.timeline && r.rev < f.rev {
		return true, nil
	}
	before := f.saw
	if r.timeline != f.timeline {
		before, f.missed, f.last = 0, false, nil
	}
	f.mirror, f.saw = r, r.rev
	return f.report(before+1, true)
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
		if old := f.entries[string(ev.Kv.Key)]; old != nil && ev.Kv.CreateRevision > old.CreateRevision {
			f.missed = true
		}
		f.change(ev)
		if i+1 < len(events) && events[i+1].Kv.ModRevision == ev.Kv.ModRevision {
			continue // one transaction, one change
		}
		f.rev = ev.Kv.ModRevision
		then := f.rev
		if f.missed {
			then, f.missed = f.saw+1, false
		}
		if more, err := f.report(then, false); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

// report tells who is first, if that is news or always is set. Whoever is first now and was not before
// has been so since then at the earliest: since the event that let it in, or since
// after the last reading. What the watch alone says of the time between two readings
// does not count, as it may have missed something.
func (f *follower) report(then int64, always bool) (more bool, err error) {
	first := f.first()
	if f.told && !always && (Head{First: first}).Same(Head{First: f.last}) {
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
	switch {
	case first == nil:
		f.since = 0
	case f.last == nil:
		f.since = first.CreateRevision
	case !same(first, f.last):
		f.since = max(first.CreateRevision, then)
	}
	f.told, f.last = true, first
	return f.tell(Head{First: first, Rev: f.rev, Since: f.since, Timeline: f.timeline}), nil
}

// watchAll watches the whole queue, from now on; nil when that cannot be had. No change shall be
// missed because a stream breaks, see resume.
func (q *Queue) watchAll(ctx context.Context) *watch {
	return q.open(ctx, q.from, clientv3.WithRange(q.end))
}

// First reads who is first.
func (q *Queue) First(ctx context.Context) (Head, error) {
	return inOneTimeline(q, func() (Head, int, error) {
		before := q.tracker.Number()
		h, err := q.firstNow(ctx)
		h.Timeline = before
		return h, before, err
	})
}

func (q *Queue) firstNow(ctx context.Context) (Head, error) {
	resp, err := q.kv.Get(ctx, q.from, clientv3.WithRange(q.end),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	if err != nil {
		return Head{}, err
	}
	if len(resp.Kvs) == 0 {
		return Head{Rev: resp.Header.Revision}, nil
	}
	first := resp.Kvs[0]
	return Head{First: first, Rev: resp.Header.Revision, Since: first.CreateRevision}, q.nested(first, nil)
}

// AwaitFirst is First that tries again until etcd has answered or ctx ends.
func (q *Queue) AwaitFirst(ctx context.Context) (head Head, err error) {
	_, err = q.retry(ctx, 0, func(ctx context.Context) (err error) {
		head, err = q.First(ctx)
		return err
	})
	return head, err
}
