package watch

import (
	"context"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/backoff"
)

// stream is one stream to etcd with the watches on it. What follows cancel is guarded by the
// watcher's mu; so is each method that says so.
type stream struct {
	of     *Watcher
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	wake   chan struct{} // wakes the sender; holds one

	idle    *time.Timer      // ends a stream without watches
	live    int              // watches that have not ended, created or not
	waiting []*asked         // those that etcd is to be asked for
	asked   []*asked         // those that it was asked for, in this order
	told    map[int64]*Watch // those that it has, by ID
	cancels []int64          // IDs of watches that it is to cancel
	answers int              // to those that it was asked for
	lastID  int64            // that was given
	obeys   bool             // the server takes the IDs that it is given
	ended   bool
}

// asked is a watch whose creation has not been answered.
type asked struct {
	watch    *Watch
	req      *pb.WatchCreateRequest
	answered chan struct{} // closed when it is, or the stream has ended
}

const (
	// linger is for how long a stream without a watch is kept for the next one. To a client with
	// a user and a password each stream costs an Authenticate request.
	linger = 30 * time.Second

	// window is how many creations may be under way at once. A server that picks the IDs by
	// itself, as etcd's proxy does, may answer in another order than it was asked in, and is
	// asked for one at a time.
	window = 64

	// firstID is beyond what a server picks by itself at first.
	firstID = 1 << 16

	// firstPause and lastPause bound the time before a stream is opened after others that broke
	// before they answered anything.
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

func newStream(of *Watcher) *stream {
	st := &stream{of: of, wake: make(chan struct{}, 1), told: make(map[int64]*Watch), lastID: firstID}
	// Without the leader a member hears nothing more, and would say nothing (trap A22).
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
	// As clientv3 opens it, but for a limit that its user may have set: what etcd sends it has
	// let in before.
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

// pause spreads the streams that are opened after those that broke; false when the stream has
// ended meanwhile.
func (st *stream) pause() bool {
	st.of.mu.Lock()
	failed := st.of.failed
	st.of.mu.Unlock()
	if failed == 0 {
		return st.ctx.Err() == nil
	}
	due := time.NewTimer(backoff.Delay(failed-1, firstPause, lastPause, int64(os.Getpid())))
	defer due.Stop()
	select {
	case <-due.C:
		return true
	case <-st.ctx.Done():
		return false
	}
}

// send sends what is to be sent, until the stream ends. Only it does, so that a stream that
// takes nothing more blocks nobody else.
func (st *stream) send(remote pb.Watch_WatchClient) {
	for {
		for req := st.next(); req != nil; req = st.next() {
			if remote.Send(req) != nil {
				return // Recv tells what went wrong
			}
		}
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			return
		}
	}
}

// next is what is to be sent now; nil when that is nothing.
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

// hear takes in what etcd says; false when it makes no sense.
func (st *stream) hear(resp *pb.WatchResponse) bool {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if resp.Created {
		return st.created(resp)
	}
	w := st.told[resp.WatchId]
	switch {
	case w == nil: // it has been stopped
	case resp.Canceled || resp.CompactRevision != 0: // trap A7
		delete(st.told, w.id)
		w.refused = true
		if resp.CompactRevision != 0 {
			// etcd has stopped serving the watch, and keeps it until it is cancelled. So does clientv3.
			st.cancels = append(st.cancels, w.id)
			st.poke()
		}
		st.finish(w)
		st.settle()
	case len(resp.Events) > 0 && !w.put(resp):
		st.drop(w)
	}
	return true
}

// created takes in the answer to the first of those that were asked for. Called with mu held.
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

// drop ends a watch that nobody wants any more. Called with mu held.
func (st *stream) drop(w *Watch) {
	if w.ended {
		return
	}
	if w.created {
		delete(st.told, w.id)
		st.cancels = append(st.cancels, w.id)
		st.poke()
	} // else when its creation is answered, or it is not asked for
	st.finish(w)
	st.settle()
}

// finish takes note that a watch has ended. Called with mu held.
func (st *stream) finish(w *Watch) {
	w.ended = true
	close(w.events)
	st.live--
}

// settle looks what becomes of a stream that a watch has left. Called with mu held.
func (st *stream) settle() {
	switch {
	case st.live > 0:
	case st.of.current == st:
		st.idle.Reset(linger)
	default:
		st.cancel()
	}
}

// retire has the watches to come take another stream. Called with mu held.
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

// heard is how many creations were answered.
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
		st.finish(w)
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
