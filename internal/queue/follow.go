package queue

import (
	"cmp"
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Head is the oldest entry of a queue at one revision.
type Head struct {
	First *mvccpb.KeyValue // nil for an empty queue
	Rev   int64
	// Since is a revision before which First was not the oldest entry, and the largest one that is known.
	// If a watch has reported the deletion of its predecessor, it is the revision of that.
	Since int64
	// Timeline is the timeline of the revisions, see package timeline.
	Timeline int

	// Unconfirmed and At are set by the caller: whether the session of First may have given up, and when
	// the head was read. Of two heads of one revision the later one counts.
	Unconfirmed bool
	At          time.Time
}

// Same reports whether two heads are of the same entry with the same value, or both of an empty queue.
func (h Head) Same(o Head) bool {
	if h.First == nil || o.First == nil {
		return h.First == o.First
	}
	if h.Unconfirmed != o.Unconfirmed {
		return false
	}
	return same(h.First, o.First) && string(h.First.Value) == string(o.First.Value)
}

// News reports whether a head is reported to an observer after another one. An earlier head is not, nor the
// same one again, nor an entry that was gone when the other head was read, because a watch may not have
// reported its deletion (trap A21). told is nil before the first report.
func (h Head) News(told *Head) bool {
	return told == nil || h.after(told) && !h.Same(*told) && !h.gone(told)
}

// gone reports whether the first entry had left the queue when another head of the timeline was read. Then
// the other head was the oldest entry, or the queue was empty.
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

// after reports whether a head was read later than another one.
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

// Follow reports the oldest entry of the queue: at once, and whenever another entry is the oldest or its
// value has changed. Each change is reported, in order. It continues over lost watches, compactions and
// restarts of etcd (trap B7). It blocks until tell returns false, and returns nil, until ctx ends, and
// returns its cause, or until etcd refuses.
func (q *Queue) Follow(ctx context.Context, tell func(first *mvccpb.KeyValue, rev int64) bool) error {
	return q.FollowHeads(ctx, func(h Head) bool { return tell(h.First, h.Rev) })
}

// FollowHeads is Follow with more in each report.
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
// changed or not. Events may have been skipped, and the caller may know more of an entry than
// before.
func (q *Queue) FollowReadings(ctx context.Context, tell func(Head) bool) error {
	h := &heads{snapshot: &snapshot{from: q.from, timeline: q.tracker.Number()}, ctx: ctx, line: &q.line, tell: tell}
	h.follower = newFollower(following, 0, func(ctx context.Context, from int64) *watch {
		return q.open(ctx, q.from, clientv3.WithRange(q.end), clientv3.WithRev(from))
	})
	defer h.timer.Stop()
	defer h.stop() // and not its stream: late says nothing against it here
	for more := true; more; {
		replaced := q.tracker.Changed()
		if h.outdated() && (h.watch != nil || h.resume > 0) {
			h.drop() // it would wait for the revisions of the timeline before
		}
		what, err := h.next(ctx, replaced)
		if err == nil && (what == opened || !h.outdated()) {
			more, err = h.learn(what)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// heads knows the whole queue as of one revision, and reports each change of its head. A reading
// that is due must not jump over what the watch has still to report of the time before it. So this
// reading waits until the watch is past its revision, or has been silent for a while.
type heads struct {
	follower
	*snapshot
	ctx  context.Context // of the call
	line *line
	tell func(Head) bool

	known     bool             // true after the first report
	last      *mvccpb.KeyValue // head in the last report
	lastSince int64            // Head.Since in the last report
	saw       int64            // revision of the last reading that was taken
	missed    bool             // true if a key was created again and its deletion was not reported
	again     *snapshot        // reading that waits for the watch; nil if there is none
	before    int64            // last revision that the watch had reported when it was read
}

// learn takes in news. more is false when the caller wants no more reports.
func (h *heads) learn(what news) (more bool, err error) {
	switch what {
	case told:
		more, err = h.apply(h.events)
		if h.again != nil {
			h.checked(true)
		}
		return more, err
	case silent:
		h.checked(false)
		if h.since == h.before && !h.again.equal(h.snapshot) {
			h.leave()
		}
		return h.take(h.again)
	case opened, due:
		m, err := h.line.readRange(h.ctx, h.line.from, h.line.end)
		switch {
		case err != nil:
			return false, err
		case what == opened:
			return h.take(m)
		}
		h.again, h.before = m, h.since
		h.checked(true)
	case woken, absent: // only by a channel of the user's, and there is none
	}
	return true, nil
}

// outdated reports whether etcd is in another timeline than what is known.
func (h *heads) outdated() bool { return h.timeline != h.line.tracker.Number() }

// take makes a reading what is known (trap B9: one revision for everything in a report).
func (h *heads) take(r *snapshot) (more bool, err error) {
	h.again = nil
	if r == nil || r.timeline == h.timeline && r.rev < h.rev {
		return true, nil
	}
	before := h.saw
	if r.timeline != h.timeline {
		before, h.missed, h.last = 0, false, nil
	}
	h.snapshot, h.saw = r, r.rev
	return h.report(before+1, true)
}

// apply takes in the changes after the known revision, one revision after the other.
func (h *heads) apply(events []*clientv3.Event) (more bool, err error) {
	for i, ev := range events {
		if h.again != nil && ev.Kv.ModRevision > h.again.rev {
			if more, err := h.take(h.again); !more || err != nil {
				return more, err
			}
		}
		if ev.Kv.ModRevision <= h.rev {
			continue
		}
		if old := h.entries[string(ev.Kv.Key)]; old != nil && ev.Kv.CreateRevision > old.CreateRevision {
			h.missed = true
		}
		h.change(ev)
		if i+1 < len(events) && events[i+1].Kv.ModRevision == ev.Kv.ModRevision {
			continue // one transaction, one change
		}
		h.rev = ev.Kv.ModRevision
		then := h.rev
		if h.missed {
			then, h.missed = h.saw+1, false
		}
		if more, err := h.report(then, false); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

// report reports the head if it has changed, or if always is true. A head that has changed was not
// the first one before the revision then: that of the event that let it in, or the one after the
// last reading. What the watch alone reports of the time between two readings does not count,
// because it may have missed something.
func (h *heads) report(then int64, always bool) (more bool, err error) {
	first := h.first()
	if h.known && !always && (Head{First: first}).Same(Head{First: h.last}) {
		return true, nil
	}
	if first != nil {
		if err := h.line.nested(first); err != nil {
			return false, err
		}
	}
	if h.ctx.Err() != nil {
		return false, context.Cause(h.ctx)
	}
	switch {
	case first == nil:
		h.lastSince = 0
	case h.last == nil:
		h.lastSince = first.CreateRevision
	case !same(first, h.last):
		h.lastSince = max(first.CreateRevision, then)
	}
	h.known, h.last = true, first
	return h.tell(Head{First: first, Rev: h.rev, Since: h.lastSince, Timeline: h.timeline}), nil
}

// First reads the head of the queue. It is one try.
func (q *Queue) First(ctx context.Context) (Head, error) {
	return inOneTimeline(q.tracker, func() (Head, int, error) {
		before := q.tracker.Number()
		h, err := q.firstNow(ctx)
		h.Timeline = before
		return h, before, err
	})
}

func (q *Queue) firstNow(ctx context.Context) (Head, error) {
	for limit := int64(1); ; limit *= moreBeside {
		resp, err := q.kv.Get(ctx, q.from, clientv3.WithRange(q.end),
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(limit))
		if err != nil {
			return Head{}, err
		}
		entries := entriesOf(q.from, resp.Kvs)
		switch {
		case len(entries) == 0 && resp.More:
			continue
		case len(entries) == 0:
			return Head{Rev: resp.Header.Revision}, nil
		}
		return Head{First: entries[0], Rev: resp.Header.Revision, Since: entries[0].CreateRevision}, q.nested(entries[0])
	}
}

// AwaitFirst is First that tries again. It blocks until etcd has answered or ctx ends.
func (q *Queue) AwaitFirst(ctx context.Context) (Head, error) {
	return ask(ctx, q.shared, 0, func(ctx context.Context) (Head, error) { return q.First(ctx) })
}
