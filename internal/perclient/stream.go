package perclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
)

// stream is one stream of renewals. What follows wake is guarded by the mu of Renewals; so is each
// method that says so.
type stream struct {
	of     *Renewals
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	wake   chan struct{} // wakes the sender; holds one

	waiting []*renewal                    // to be sent
	sent    []*renewal                    // without an answer, in this order
	asked   map[clientv3.LeaseID]*renewal // waiting and sent
	live    int                           // renewals that a caller waits for
	heard   bool                          // it has answered something
	gaveWay bool                          // to another one, as it hung
	ended   bool
}

// firstPause and lastPause bound the time before a stream is opened after others that broke before
// they answered anything.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

func newStream(of *Renewals) *stream {
	st := &stream{of: of, wake: make(chan struct{}, 1), asked: make(map[clientv3.LeaseID]*renewal)}
	st.ctx, st.cancel = context.WithCancel(of.life.ctx)
	return st
}

// run opens the stream and serves it to its end.
func (st *stream) run() {
	if !st.pause() {
		st.over(errOver)
		return
	}
	remote, err := st.of.remote.LeaseKeepAlive(st.ctx, grpc.WaitForReady(true))
	if err != nil {
		st.over(err)
		return
	}
	var sender sync.WaitGroup
	sender.Go(func() { st.send(remote) })
	for {
		var resp *pb.LeaseKeepAliveResponse
		if resp, err = remote.Recv(); err != nil {
			break
		}
		if !st.hear(resp) {
			err = errOver
			break
		}
	}
	if errors.Is(err, io.EOF) { // a proxy on the way to etcd has ended it
		err = errOver
	}
	st.over(err)
	sender.Wait()
}

// pause waits before a stream is opened after others broke, spread over time. It returns false if the
// stream has ended meanwhile.
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

// send sends the waiting renewals until the stream ends. No session sends by itself, so a stream that
// accepts nothing more blocks no session.
func (st *stream) send(remote pb.Lease_LeaseKeepAliveClient) {
	for {
		for q := st.next(); q != nil; q = st.next() {
			if remote.Send(&pb.LeaseKeepAliveRequest{ID: int64(q.id)}) != nil {
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

// next returns the renewal that is sent now, nil for none. The renewal counts from now on.
func (st *stream) next() *renewal {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	for len(st.waiting) > 0 {
		q := st.waiting[0]
		st.waiting[0] = nil
		st.waiting = st.waiting[1:]
		if q.settled { // given up before its turn
			delete(st.asked, q.id)
			q.err = context.Canceled // says nothing about the lease
			close(q.done)
			continue
		}
		q.sent = q.clock()
		st.sent = append(st.sent, q)
		return q
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

// hear handles an answer. It returns false for one without a renewal.
func (st *stream) hear(resp *pb.LeaseKeepAliveResponse) bool {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	i := slices.IndexFunc(st.sent, func(q *renewal) bool { return int64(q.id) == resp.ID })
	if i < 0 {
		return false
	}
	q := st.sent[i]
	st.sent = slices.Delete(st.sent, i, i+1)
	delete(st.asked, q.id)
	st.heard = true
	st.of.failed = 0
	q.resp = resp
	st.settle(q)
	return true
}

// settle delivers the result of a renewal. Called with mu held.
func (st *stream) settle(q *renewal) {
	close(q.done)
	if !q.settled {
		q.settled = true
		st.left()
	}
}

// left notes that no caller waits for one of the renewals any more. A stream that gave way ends with
// the last one. Called with mu held.
func (st *stream) left() {
	st.live--
	if st.live == 0 && st.of.current != st {
		st.cancel()
	}
}

// late reports whether each renewal on the stream is older than its longestWait, so that its lease has
// sent the next one or is about to. Called with mu held.
func (st *stream) late() bool {
	for _, q := range st.asked {
		if !q.settled && time.Since(q.began) < q.longestWait {
			return false
		}
	}
	return true
}

// over ends the stream.
func (st *stream) over(err error) {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	st.end(err)
}

// end ends the stream. Called with mu held.
//
// If a stream breaks that worked before, or because its token expired, its renewals are sent once more
// on another stream, in the same order. Renewals on a stream that gave way fail instead, because a
// later renewal of each of these leases is in flight.
//
// etcd answers in the order of the requests. If etcd has ended the stream for a final reason, the
// first renewal without an answer is at fault, and no other one.
func (st *stream) end(err error) {
	if st.ended {
		return
	}
	st.ended = true
	if st.of.current == st {
		st.of.current = nil
	}
	st.of.hanging = slices.DeleteFunc(st.of.hanging, func(o *stream) bool { return o == st })
	if st.ctx.Err() == nil && !st.heard {
		st.of.failed++
	}
	st.cancel()
	blamed := len(st.sent) > 0 && answer.Final(err)
	if blamed {
		st.sent[0].atFault = true
		st.of.alone[st.sent[0].id] = true
		err = errOver
	}
	var again []*renewal
	for _, q := range slices.Concat(st.sent, st.waiting) {
		if !q.settled && !q.atFault && !st.gaveWay && (blamed || !q.fresh && !q.moved) {
			q.moved = true
			again = append(again, q)
			continue
		}
		q.err = err
		st.settle(q)
	}
	st.waiting, st.sent, st.asked = nil, nil, nil
	if len(again) > 0 {
		st.of.put(again...)
	}
}
