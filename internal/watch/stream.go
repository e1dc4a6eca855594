package watch

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/backoff"
)

// stream is one stream to etcd with its watches. The fields from idle on are guarded by the watcher's mu.
type stream struct {
	of     *Watcher
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	wake   chan struct{} // wakes the sender; holds one

	idle    *time.Timer      // ends a stream without watches
	live    int              // watches that have not ended, created or not
	waiting []*asked         // creations that are to be sent
	asked   []*asked         // creations that were sent and not answered, in this order
	told    map[int64]*Watch // watches that etcd has, by ID
	cancels []int64          // IDs of watches that etcd is to cancel
	answers int              // number of creations that etcd has answered
	lastID  int64            // last ID that was given to a watch
	obeys   bool             // true if the server takes the IDs that it is given
	ended   bool
}

// asked is a watch before etcd has answered its creation.
type asked struct {
	watch    *Watch
	req      *pb.WatchCreateRequest
	answered chan struct{} // closed when it is answered, or the stream has ended
}

const (
	// linger is the time for which a stream without watches is kept. Each new stream of a client with a user
	// and a password costs an Authenticate request.
	linger = 30 * time.Second

	// window is the number of creations that may be without an answer. A server that picks the IDs by
	// itself, as etcd's proxy does, may answer in another order. It gets one at a time.
	window = 64

	// firstID is larger than the IDs that a server picks by itself at first.
	firstID = 1 << 16

	// firstPause and lastPause bound the pause before a stream is opened after streams that broke before
	// they answered anything.
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

func newStream(of *Watcher) *stream {
	st := &stream{of: of, wake: make(chan struct{}, 1), told: make(map[int64]*Watch), lastID: firstID}
	// A member without a leader learns of no changes, and would report none (trap A22).
	st.ctx, st.cancel = context.WithCancel(clientv3.WithRequireLeader(of.life))
	st.idle = time.AfterFunc(linger, st.rest)
	st.idle.Stop()
	return st
}

// run opens the stream and serves it to its end.
func (st *stream) run() {
	defer st.over()
	if !st.pause() {
		return
	}
	// clientv3 opens it like this, too, but heeds a limit of its user. etcd let in what it sends here.
	remote, err := st.of.remote.Watch(st.ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return
	}
	var sender sync.WaitGroup
	sender.Go(func() { st.send(remote) })
	for {
		resp, err := remote.Recv()
		if err != nil || !st.hear(resp) {
			break
		}
	}
	st.over()
	sender.Wait()
}

// pause waits before a stream that follows others that broke. It returns false if the stream has ended
// meanwhile.
func (st *stream) pause() bool {
	st.of.mu.Lock()
	failed := st.of.failed
	st.of.mu.Unlock()
	if failed == 0 {
		return st.ctx.Err() == nil
	}
	due := time.NewTimer(backoff.Delay(failed-1, firstPause, lastPause, backoff.Process))
	defer due.Stop()
	select {
	case <-due.C:
		return true
	case <-st.ctx.Done():
		return false
	}
}

// send sends requests until the stream ends. No other goroutine sends, so a stream that hangs blocks this
// one only.
func (st *stream) send(remote pb.Watch_WatchClient) {
	for {
		for req := st.next(); req != nil; req = st.next() {
			if remote.Send(req) != nil {
				return // Recv returns the error
			}
		}
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			return
		}
	}
}

// next returns the request that is to be sent now, or nil.
func (st *stream) next() *pb.WatchRequest {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	for len(st.waiting) > 0 && (len(st.asked) == 0 || st.obeys && len(st.asked) < window) {
		a := st.waiting[0]
		st.waiting[0] = nil
		st.waiting = st.waiting[1:]
		if a.watch.ended {
			continue
		}
		st.lastID++
		a.req.WatchId = st.lastID
		st.asked = append(st.asked, a)
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: a.req}}
	}
	if len(st.cancels) > 0 {
		id := st.cancels[0]
		st.cancels = st.cancels[1:]
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	}
	return nil
}

// poke wakes the sender.
func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// hear takes in a response. It returns false if the response makes no sense.
func (st *stream) hear(resp *pb.WatchResponse) bool {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if resp.Created {
		return st.created(resp)
	}
	w := st.told[resp.WatchId]
	switch {
	case w == nil: // it was stopped
	case resp.Canceled || resp.CompactRevision != 0: // trap A7
		delete(st.told, w.id)
		w.refused = true
		if resp.CompactRevision != 0 {
			// etcd no longer serves the watch, and keeps it until it is cancelled. clientv3 does this, too.
			st.cancels = append(st.cancels, w.id)
			st.poke()
		}
		st.broken(w)
		st.settle()
	case len(resp.Events) > 0 && !w.put(resp):
		st.drop(w)
	}
	return true
}

// created takes in the answer to the first creation that was sent. Called with mu held.
func (st *stream) created(resp *pb.WatchResponse) bool {
	if len(st.asked) == 0 {
		return false
	}
	a := st.asked[0]
	st.asked[0] = nil
	st.asked = st.asked[1:]
	st.answers++
	defer st.poke()
	defer close(a.answered)
	w := a.watch
	if resp.Canceled || resp.WatchId == clientv3.InvalidWatchID {
		if stale(resp.CancelReason) {
			st.of.failed++
			st.retire()
		}
		if !w.ended {
			st.finish(w)
			st.settle()
		}
		return true
	}
	if st.obeys && resp.WatchId != a.req.WatchId {
		return false
	}
	st.obeys = resp.WatchId == a.req.WatchId
	st.of.failed = 0
	w.id = resp.WatchId
	if w.ended {
		st.cancels = append(st.cancels, w.id)
		return true
	}
	w.created = true
	w.header = resp.Header
	w.since = SinceOf(resp.Header.GetRevision(), a.req.StartRevision)
	st.told[w.id] = w
	return true
}

// take puts a watch on the stream. Called with mu held.
func (st *stream) take(a *asked) {
	a.watch.stream = st
	st.live++
	st.idle.Stop()
	st.waiting = append(st.waiting, a)
	st.poke()
}

// drop ends a watch that was stopped, or that has a slow reader. Called with mu held.
func (st *stream) drop(w *Watch) {
	if w.ended {
		return
	}
	if w.created {
		delete(st.told, w.id)
		st.cancels = append(st.cancels, w.id)
		st.poke()
	} // otherwise it is cancelled when its creation is answered, or its creation is not sent
	st.finish(w)
	st.settle()
}

// finish marks a watch as ended. Called with mu held.
func (st *stream) finish(w *Watch) {
	w.ended = true
	st.live--
	if w.sink == nil {
		close(w.events)
	}
}

// broken is finish for a watch that etcd had, and that was not stopped. Called with mu held.
func (st *stream) broken(w *Watch) {
	st.finish(w)
	if w.sink != nil {
		w.sink.Ended()
	}
}

// settle ends a stream that the last watch has left, at once or after linger. Called with mu held.
func (st *stream) settle() {
	switch {
	case st.live > 0:
	case st.of.current == st:
		st.idle.Reset(linger)
	default:
		st.cancel()
	}
}

// retire makes later watches take another stream. Called with mu held.
func (st *stream) retire() {
	if st.of.current == st {
		st.of.current = nil
		if st.live > 0 {
			st.of.retired = append(st.of.retired, st)
		}
	}
	if st.live == 0 {
		st.cancel()
	}
	if len(st.of.retired) > mostRetired {
		st.of.retired[0].end()
	}
}

// rest ends the stream if it has no watch.
func (st *stream) rest() {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if st.live == 0 {
		st.retire()
	}
}

// heard returns the number of creations that were answered.
func (st *stream) heard() int {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	return st.answers
}

// over ends the stream and all its watches.
func (st *stream) over() {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	st.end()
}

// end is over with mu held.
func (st *stream) end() {
	if st.ended {
		return
	}
	st.ended = true
	st.of.retired = slices.DeleteFunc(st.of.retired, func(o *stream) bool { return o == st })
	if st.ctx.Err() == nil && st.answers == 0 {
		st.of.failed++
	}
	if st.of.current == st {
		st.of.current = nil
	}
	st.cancel()
	st.idle.Stop()
	for _, w := range st.told {
		st.broken(w)
	}
	for _, left := range [][]*asked{st.asked, st.waiting} {
		for _, a := range left {
			if !a.watch.ended {
				st.finish(a.watch)
			}
			close(a.answered)
		}
	}
	st.told, st.asked, st.waiting = nil, nil, nil
}
