package simetcd

import (
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A feed is the server's end of a watch stream.
type feed struct {
	hub      *hub
	stream   *stream
	watches  []*watch // in order of creation
	nextID   int64
	progress *event // the next round of progress notifications, once a watch wants them
}

// A watch is synced once it has got all of the past that it asked for; from then on it gets each change as it happens.
type watch struct {
	id             int64
	key, end       string
	start          int64 // as asked for
	next           int64 // the first revision it has not been shown
	noPut, noDel   bool
	prevKV         bool
	notify, quiet  bool // progress notifications are wanted; nothing was sent since the last round
	synced, closed bool // closed: by a compaction; only its ID lives on, until the client cancels it
}

// authError reports whether etcd puts an error into the answer to a watch request, instead of breaking the stream.
func authError(err error) bool {
	for _, auth := range []error{
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken,
		rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty,
	} {
		if errors.Is(err, auth) {
			return true
		}
	}
	return false
}

// create answers a watch request. A refused one is created and cancelled in one response.
func (f *feed) create(r *pb.WatchCreateRequest, refused error, answer func(any)) {
	w := &watch{
		id: r.WatchId, key: string(r.Key), end: string(r.RangeEnd), start: r.StartRevision, next: r.StartRevision,
		noPut:  slices.Contains(r.Filters, pb.WatchCreateRequest_NOPUT),
		noDel:  slices.Contains(r.Filters, pb.WatchCreateRequest_NODELETE),
		prevKV: r.PrevKv, notify: r.ProgressNotify, quiet: true,
	}
	if w.key == "" {
		w.key = "\x00" // the smallest key
	}
	reason := ""
	switch {
	case r.StartRevision < 0:
		reason = rpctypes.ErrCompacted.Error()
	case refused != nil:
		reason = refused.Error()
	case w.end != "" && w.end != fromKey && w.key >= w.end:
		reason = "mvcc: watcher range is empty"
	case w.id != clientv3.AutoWatchID && f.find(w.id) != nil:
		reason = "mvcc: duplicate watch ID provided on the WatchStream"
	}
	if reason != "" {
		answer(&pb.WatchResponse{
			Header: f.header(0), WatchId: clientv3.InvalidWatchID, Created: true, Canceled: true, CancelReason: reason,
		})
		return
	}
	if w.id == clientv3.AutoWatchID {
		for f.find(f.nextID) != nil {
			f.nextID++
		}
		w.id = f.nextID
		f.nextID++
	}
	current := f.hub.store.rev
	w.synced = w.start == 0 || w.start > current
	if w.synced {
		w.next = max(current+1, w.start)
	}
	f.watches = append(f.watches, w)
	answer(&pb.WatchResponse{Header: f.header(0), WatchId: w.id, Created: true})
	if !w.synced {
		f.hub.syncLater()
	}
	if w.notify && f.progress == nil {
		f.scheduleProgress()
	}
}

func (f *feed) find(id int64) *watch {
	for _, w := range f.watches {
		if w.id == id {
			return w
		}
	}
	return nil
}

// cancel ends a watch; one that is not there gets no answer.
func (f *feed) cancel(id int64, answer func(any)) {
	w := f.find(id)
	if w == nil {
		return
	}
	f.remove(w)
	answer(&pb.WatchResponse{Header: f.header(0), WatchId: id, Canceled: true})
}

func (f *feed) remove(w *watch) {
	f.watches = slices.DeleteFunc(f.watches, func(o *watch) bool { return o == w })
}

// header is that of a response about revision rev, or the current one when rev is 0.
func (f *feed) header(rev int64) *pb.ResponseHeader {
	return f.hub.member.header(&pb.ResponseHeader{Revision: rev})
}

// notify shows the changes of a new revision to the synced watches, in one response each.
func (f *feed) notify(changes []change) {
	for _, w := range f.watches {
		if !w.synced || w.closed {
			continue
		}
		if events := f.events(w, changes); len(events) > 0 {
			f.show(w, events)
		}
		w.next = max(w.next, changes[0].rev+1)
	}
}

func (f *feed) show(w *watch, events []*mvccpb.Event) {
	w.quiet = false
	f.stream.push(&pb.WatchResponse{Header: f.header(0), WatchId: w.id, Events: events}, 0, 0, 0)
}

// events picks what a watch is to see of some history.
func (f *feed) events(w *watch, changes []change) []*mvccpb.Event {
	var events []*mvccpb.Event
	for i := range changes {
		c := &changes[i]
		if c.rev < w.next || c.missed || c.deleted && w.noDel || !c.deleted && w.noPut {
			continue
		}
		if !inRange(string(c.kv.Key), w.key, w.end) {
			continue
		}
		ev := c.event()
		// etcd reads the previous state at the revision before, which may be compacted by now, and so not what the same
		// transaction wrote. A key that is new has none, even if the same transaction deleted it.
		created := !c.deleted && c.kv.CreateRevision == c.rev
		if w.prevKV && !created && c.rev-1 >= f.hub.store.compacted {
			ev.PrevKv = copyKV(f.hub.store.get(string(c.kv.Key), c.rev-1))
		}
		events = append(events, ev)
	}
	return events
}

// progressAll answers a progress request: all watches of the stream at once, and only if each has been shown all.
func (f *feed) progressAll(answer func(any)) {
	current := f.hub.store.rev
	for _, w := range f.watches {
		if !w.upToDate(current) {
			return
		}
	}
	if len(f.watches) > 0 {
		answer(&pb.WatchResponse{Header: f.header(0), WatchId: clientv3.InvalidWatchID})
	}
}

func (w *watch) upToDate(current int64) bool { return w.synced && !w.closed && current >= w.start }

func (f *feed) scheduleProgress() {
	f.progress = f.hub.sched.at(f.hub.sched.now()+int64(f.hub.progressInterval), func() {
		for _, w := range f.watches {
			if w.notify && w.quiet && w.upToDate(f.hub.store.rev) {
				f.stream.push(&pb.WatchResponse{Header: f.header(0), WatchId: w.id}, 0, 0, 0)
			}
			w.quiet = true
		}
		f.scheduleProgress()
	})
}
