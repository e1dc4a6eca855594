package perclient

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Renewals renews the leases of all sessions of a client on one stream.
//
// clientv3's KeepAliveOnce opens a stream for each renewal. For a client with a user and a password
// each stream costs an Authenticate request, some 50 ms of computing by etcd. KeepAliveOnce also
// retries without a pause while a member refuses it.
//
// A lease has one renewal at a time on a stream, so an answer belongs to the renewal with its lease
// ID. When a renewal is not answered in time, its stream gives way to another one, which may get
// another connection. The stream that gave way stays until the renewals on it are answered or given
// up.
type Renewals struct {
	life   *life
	remote pb.LeaseClient

	// mu guards what follows, the streams and the renewals. It is never held across a request.
	mu      sync.Mutex
	current *stream                   // takes the renewals to come; nil while there is none
	hanging []*stream                 // streams that gave way, oldest first
	failed  int                       // streams in a row that broke before they answered anything
	alone   map[clientv3.LeaseID]bool // leases that are renewed alone: a renewal broke a stream
}

// mostHanging is how many streams that gave way are kept. While etcd hangs each of them may be
// answered in the end, if it goes to another member or over another connection.
const mostHanging = 3

func newRenewals(l *life, remote pb.LeaseClient) *Renewals {
	return &Renewals{life: l, remote: remote, alone: make(map[clientv3.LeaseID]bool)}
}

var (
	errOver     = status.Error(codes.Unavailable, "etcdlock: the stream of renewals has ended")
	errReplaced = status.Error(codes.Unavailable, "etcdlock: the stream of renewals hung and was replaced")
)

// Renew renews a lease. It returns etcd's answer, with a TTL of 0 for a lease that etcd does not know,
// and when the answered renewal was sent, by clock. It blocks until the answer, an error or the end
// of ctx. It waits for an earlier renewal of the lease that is unanswered, until that one is as old as
// longestWait. Then another stream usually takes the place of the present one.
func (r *Renewals) Renew(ctx context.Context, id clientv3.LeaseID, clock func() time.Duration, longestWait time.Duration) (
	resp *pb.LeaseKeepAliveResponse, sent time.Duration, err error) {
	q, err := r.ask(ctx, id, clock, longestWait)
	if err != nil {
		return nil, 0, err
	}
	if q != nil {
		select {
		case <-q.done:
		case <-ctx.Done():
			r.giveUp(q)
			return nil, 0, ctx.Err()
		}
		if !q.atFault {
			return q.resp, q.sent, rpctypes.Error(q.err)
		}
	}
	return r.renewAlone(ctx, id, clock)
}

// ask puts a renewal on the current stream, or a new one; nil if the lease is to be renewed alone.
func (r *Renewals) ask(ctx context.Context, id clientv3.LeaseID, clock func() time.Duration, longestWait time.Duration) (*renewal, error) {
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.mu.Lock()
		if r.alone[id] {
			r.mu.Unlock()
			return nil, nil
		}
		var earlier *renewal
		if r.current != nil {
			earlier = r.current.asked[id]
		}
		if earlier == nil || time.Since(earlier.began) >= longestWait && r.replace() {
			q := &renewal{id: id, clock: clock, longestWait: longestWait, done: make(chan struct{})}
			r.put(q)
			r.mu.Unlock()
			return q, nil
		}
		left := longestWait - time.Since(earlier.began)
		if left <= 0 {
			left = longestWait
		}
		r.mu.Unlock()
		due := time.NewTimer(left)
		select {
		case <-earlier.done:
			if earlier.err == nil && earlier.resp.TTL <= 0 {
				due.Stop()
				return earlier, nil // a lease that is gone stays gone
			}
		case <-due.C:
		case <-ctx.Done():
		}
		due.Stop()
	}
}

// put puts a renewal on the current stream, and makes one if there is none. Called with mu held.
func (r *Renewals) put(all ...*renewal) {
	opened := r.current == nil
	if opened {
		r.current = newStream(r)
	}
	st := r.current
	for _, q := range all {
		q.stream, q.began, q.fresh = st, time.Now(), !st.heard
		st.asked[q.id] = q
		st.live++
		st.waiting = append(st.waiting, q)
	}
	st.poke()
	if opened && !r.life.spawn(st.run) {
		st.end(errOver)
	}
}

// replace makes later renewals use another stream. It returns false if too many streams hang, each
// with a renewal that is not late yet for its own lease: the short leases of some sessions must not
// end the leases of others, for which etcd is fast enough. Called with mu held.
func (r *Renewals) replace() bool {
	st := r.current
	if st.live > 0 && len(r.hanging) == mostHanging {
		oldest := slices.IndexFunc(r.hanging, (*stream).late)
		if oldest < 0 {
			return false
		}
		r.hanging[oldest].end(errReplaced)
	}
	r.current, st.gaveWay = nil, true
	if st.live == 0 {
		st.cancel()
		return true
	}
	r.hanging = append(r.hanging, st)
	return true
}

// giveUp notes that no caller waits for a renewal any more. Its answer may still come, and must not be
// taken for the answer to a later renewal.
func (r *Renewals) giveUp(q *renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.settled {
		return
	}
	q.settled = true
	q.stream.left()
}

// renewAlone renews a lease on a stream of its own, because its renewals break their stream, as for a
// missing permission.
func (r *Renewals) renewAlone(ctx context.Context, id clientv3.LeaseID, clock func() time.Duration) (resp *pb.LeaseKeepAliveResponse, sent time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life.ctx, cancel)()
	st, err := r.remote.LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, 0, rpctypes.Error(err)
	}
	sent = clock()
	_ = st.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}) // Recv tells what went wrong
	resp, err = st.Recv()
	if err != nil {
		return nil, 0, rpctypes.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alone, id)
	return resp, sent, nil
}

// renewal is one renewal on a stream. Its fields are guarded by mu until done is closed.
type renewal struct {
	id          clientv3.LeaseID
	clock       func() time.Duration
	longestWait time.Duration // after which the next one of the lease may take another stream
	stream      *stream
	began       time.Time // on that stream
	fresh       bool      // the stream had not answered anything before
	moved       bool      // it was on another stream before, which broke
	settled     bool      // true once no caller waits for it

	done    chan struct{} // closed when it is answered or has failed, and what follows is set
	sent    time.Duration // set before the request is sent
	resp    *pb.LeaseKeepAliveResponse
	err     error
	atFault bool // etcd ended the stream over this renewal
}
