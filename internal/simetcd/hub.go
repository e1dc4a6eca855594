package simetcd

import (
	"cmp"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A hub has the server's ends of all open watch streams. It is guarded by the server's mu.
type hub struct {
	sched            *schedule
	store            *store
	member           *member
	unsyncedTick     time.Duration
	progressInterval time.Duration

	feeds    []*feed        // in order of creation, or as sort has it
	syncTick *event         // when the watches that are behind are served; nil for no such tick
	missing  map[string]int // deletions that no watch will report, by key
}

func newHub(cfg Config, sched *schedule, store *store, member *member) *hub {
	return &hub{
		sched: sched, store: store, member: member, unsyncedTick: cfg.UnsyncedTick, progressInterval: cfg.ProgressInterval,
		missing: make(map[string]int),
	}
}

// open makes the end of a stream.
func (h *hub) open(st *stream) *feed {
	f := &feed{hub: h, stream: st}
	h.feeds = append(h.feeds, f)
	return f
}

// close ends the end of a stream.
func (h *hub) close(f *feed) {
	h.sched.cancel(f.progress)
	h.feeds = slices.DeleteFunc(h.feeds, func(o *feed) bool { return o == f })
}

// sort orders the streams by their marks, so that chance does not.
func (h *hub) sort() {
	slices.SortStableFunc(h.feeds, func(a, b *feed) int {
		return cmp.Or(cmp.Compare(a.stream.l.name, b.stream.l.name), cmp.Compare(a.stream.mark, b.stream.mark))
	})
}

// miss hides the next deletion of a key.
func (h *hub) miss(key string) { h.missing[key]++ }

// hide marks the deletions that no watch will report.
func (h *hub) hide(changes []change) {
	for i := range changes {
		c := &changes[i]
		if key := string(c.kv.Key); c.deleted && h.missing[key] > 0 {
			h.missing[key]--
			c.missed = true
		}
	}
}

// notify shows the changes of a new revision to all watches.
func (h *hub) notify(changes []change) {
	for _, f := range h.feeds {
		f.notify(changes)
	}
}

// cancelAll cancels all watches.
func (h *hub) cancelAll(reason string) {
	for _, f := range h.feeds {
		for _, w := range slices.Clone(f.watches) {
			f.remove(w)
			f.stream.push(&pb.WatchResponse{Header: f.header(0), WatchId: w.id, Canceled: true, CancelReason: reason}, 0, 0, 0)
		}
	}
}

// syncLater has the watches that are behind served at the next tick. The ticks are a grid from the server's start on,
// as in etcd, where one loop serves all.
func (h *hub) syncLater() {
	if h.unsyncedTick < 0 {
		h.syncWatches()
		return
	}
	if h.syncTick != nil {
		return
	}
	tick := int64(max(h.unsyncedTick, time.Nanosecond))
	h.syncTick = h.sched.at((h.sched.now()/tick+1)*tick, func() {
		h.syncTick = nil
		h.syncWatches()
	})
}

// syncWatches sends each watch that is behind all missed events, in one response. It cancels a watch of compacted
// revisions, with a response of revision 0, as etcd does.
func (h *hub) syncWatches() {
	for _, f := range h.feeds {
		for _, w := range f.watches {
			if w.synced || w.closed {
				continue
			}
			if w.next < h.store.compacted {
				w.closed = true
				resp := &pb.WatchResponse{Header: f.header(0), WatchId: w.id, Canceled: true, CompactRevision: h.store.compacted}
				resp.Header.Revision = 0
				f.stream.push(resp, 0, 0, 0)
				continue
			}
			if events := f.events(w, h.store.since(w.next)); len(events) > 0 {
				f.show(w, events)
			}
			w.synced, w.next = true, h.store.rev+1
		}
	}
}
