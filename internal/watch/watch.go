package watch

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watch is one watch.
type Watch struct {
	stream *stream
	detach func() bool // from the context
	since  int64
	header *pb.ResponseHeader // of the answer to its creation

	// Guarded by the watcher's mu, but for reading from events.
	events  chan clientv3.WatchResponse
	id      int64
	created bool
	ended   bool
	refused bool // by etcd
}

// most is how many events a watch holds for a reader who is slow, unless etcd sends more of
// them at once.
const most = 1024

// Events tells what happens, and is closed when the watch has ended: by Stop, with its context,
// or because nothing more will come, as after a compaction, with the stream, or when the reader
// is too slow. What came together, or before the reader looked, is told together.
func (w *Watch) Events() clientv3.WatchChan { return w.events }

// Since is a revision: of whatever comes after it the watch tells. It may tell of what came
// before, too, where it was told from which revision to start.
func (w *Watch) Since() int64 { return w.since }

// Header is that of the answer to its creation, by the member that has the watch.
func (w *Watch) Header() *pb.ResponseHeader { return w.header }

// SinceOf is what Since is, by the revision in the answer to the watch's creation, and that from
// which it was to start; 0 for none. etcd reads its revision after it has begun to watch, so that
// nothing falls between them. A watch on the future begins later than that. Of one whose answer
// has no revision, as something between us and etcd may leave it out, nothing is known.
func SinceOf(created, start int64) int64 {
	if created == 0 && start == 0 {
		return math.MaxInt64
	}
	return max(created, start-1)
}

// Cancelled tells whether etcd has ended the watch, as after a compaction: it cannot be taken up
// where it ended.
func (w *Watch) Cancelled() bool {
	w.stream.of.mu.Lock()
	defer w.stream.of.mu.Unlock()
	return w.refused
}

// Stop ends the watch. It blocks on nothing, and may be called again.
func (w *Watch) Stop() {
	w.detach()
	w.stop()
}

// MoveOn says that the watch does not tell what it should have told: the watches to come go on
// another stream. Those that are on this one stay there.
func (w *Watch) MoveOn() {
	w.stream.of.mu.Lock()
	defer w.stream.of.mu.Unlock()
	w.stream.retire()
}

func (w *Watch) stop() {
	w.stream.of.mu.Lock()
	defer w.stream.of.mu.Unlock()
	w.stream.drop(w)
}

// put puts events into the mailbox; false when it is full. Called with mu held: nobody else
// writes.
func (w *Watch) put(resp *pb.WatchResponse) bool {
	next := clientv3.WatchResponse{Header: resp.Header, Events: resp.Events}
	select {
	case w.events <- next:
		return true
	default:
	}
	fits := true
	select {
	case last := <-w.events:
		if fits = len(last.Events)+len(next.Events) <= most; fits {
			next.Events = append(last.Events, next.Events...)
		} else {
			next = last
		}
	default: // the reader was faster
	}
	w.events <- next
	return fits
}
