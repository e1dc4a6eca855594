package watch

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watch is one watch.
type Watch struct {
	stream *stream
	sink   Sink // takes what is reported; nil if the channel does
	*reader

	// The fields below are guarded by the watcher's mu, except for receiving from events.
	id      int64
	created bool
	ended   bool
	refused bool // true if etcd has ended the watch
}

// reader is what the reader of a watch has. A watch with a sink has none after Forget.
type reader struct {
	events chan clientv3.WatchResponse // guarded like the fields of the watch; nil with a sink
	detach func() bool                 // detaches the watch from the context; nil with a sink
	since  int64
	header *pb.ResponseHeader // of the answer to the creation
}

// Sink takes what a watch reports, in place of the channel. Its methods are called with the watcher's mutex
// held: they do not block, and do not call the watcher.
type Sink interface {
	Heard(clientv3.WatchResponse)
	// Ended tells that the watch has ended, other than by Stop.
	Ended()
}

// most is the number of events that a watch keeps for a slow reader. It keeps more if etcd sends more in
// one response.
const most = 1024

// Events returns the channel of events. It is closed when the watch has ended: by Stop, with its context or
// its stream, when etcd has ended it, as after a compaction, or when the reader is too slow. Events that
// came before the reader was ready are in one response.
func (w *Watch) Events() clientv3.WatchChan { return w.events }

// Since returns a revision after which the watch reports everything. A watch with a start revision may also
// report events before it.
func (w *Watch) Since() int64 { return w.since }

// Header returns the header of the answer to the creation, by the member that has the watch.
func (w *Watch) Header() *pb.ResponseHeader { return w.header }

// Forget drops what Since and Header return, for a watch with a sink that lasts.
func (w *Watch) Forget() { w.reader = nil }

// SinceOf returns what Since returns, by the revision in the answer to the creation and by the start
// revision, which is 0 if there is none. etcd reads its revision after it has begun to watch, so no event
// falls between them. A watch that starts in the future begins later. If the answer has no revision, which
// a proxy may leave out, nothing is known, and the result is the largest number.
func SinceOf(created, start int64) int64 {
	if created == 0 && start == 0 {
		return math.MaxInt64
	}
	return max(created, start-1)
}

// Cancelled reports whether etcd has ended the watch, as it does after a compaction. Then no watch can continue
// where this one ended.
func (w *Watch) Cancelled() bool {
	w.stream.of.mu.Lock()
	defer w.stream.of.mu.Unlock()
	return w.refused
}

// Stop ends the watch. It does not block, and may be called again.
func (w *Watch) Stop() {
	if w.reader != nil && w.detach != nil {
		w.detach()
	}
	w.stop()
}

// MoveOn makes later watches take another stream, because this watch did not report what it should have.
// The watches on its stream stay there.
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

// put passes events on to the sink, or puts them into the channel. It returns false if too many are in it. Called with mu held, which
// every sender has.
func (w *Watch) put(resp *pb.WatchResponse) bool {
	next := clientv3.WatchResponse{Header: resp.Header, Events: resp.Events}
	if w.sink != nil {
		w.sink.Heard(next)
		return true
	}
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
	default: // the reader has taken them
	}
	w.events <- next
	return fits
}
