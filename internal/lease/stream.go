package lease

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// renewer sends one renewal and returns the TTL that etcd answers.
type renewer interface {
	renew(ctx context.Context, id clientv3.LeaseID) (ttl int64, err error)
}

// renewOnce is one renewal; a lease that etcd does not know is an error.
func renewOnce(ctx context.Context, r renewer, id clientv3.LeaseID) (time.Duration, error) {
	ttl, err := r.renew(ctx, id)
	if err == nil && ttl <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	return time.Duration(ttl) * time.Second, err
}

// once renews through clientv3, which opens a stream for each renewal, and tries
// again at once, and again, while a member refuses it.
type once struct{ client clientv3.Lease }

func (o once) renew(ctx context.Context, id clientv3.LeaseID) (int64, error) {
	resp, err := o.client.KeepAliveOnce(ctx, id)
	if err != nil {
		return 0, err
	}
	return resp.TTL, nil
}

// streams renews on a stream of its own that is used again, for two reasons.
//
// clientv3's KeepAliveOnce tries again without a pause while it is refused, as by a
// member without a leader: hundreds of requests a second, from each session, to an
// etcd in trouble. And to a client with a user and a password every new stream costs
// an Authenticate request, which costs etcd some 50 ms of computing on purpose: a few
// hundred sessions that open one for each renewal would keep its cores busy.
//
// A stream serves one renewal at a time, so that each answer belongs to the request
// before it. A renewal that comes while another one hangs gets a stream, and with
// luck a connection, of its own.
type streams struct {
	remote pb.LeaseClient
	ctx    context.Context // the streams end with it

	mu   sync.Mutex
	idle *stream // at most one is kept
}

type stream struct {
	pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

func (s *streams) renew(ctx context.Context, id clientv3.LeaseID) (int64, error) {
	if st := s.take(); st != nil {
		ttl, err := s.renewOn(ctx, st, id)
		if err == nil || ctx.Err() != nil {
			return ttl, err
		}
		// It broke while it was idle, or its token ran out: that says nothing of etcd.
	}
	st, err := s.open(ctx)
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	return s.renewOn(ctx, st, id)
}

func (s *streams) renewOn(ctx context.Context, st *stream, id clientv3.LeaseID) (int64, error) {
	stop := context.AfterFunc(ctx, st.cancel)
	_ = st.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}) // Recv tells what went wrong
	resp, err := st.Recv()
	if err != nil {
		stop()
		st.cancel()
		return 0, rpctypes.Error(err)
	}
	if stop() {
		s.put(st)
	}
	return resp.TTL, nil
}

func (s *streams) open(ctx context.Context) (*stream, error) {
	own, cancel := context.WithCancel(s.ctx)
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	st, err := s.remote.LeaseKeepAlive(own, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return nil, err
	}
	return &stream{st, cancel}, nil
}

func (s *streams) take() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.idle
	s.idle = nil
	return st
}

func (s *streams) put(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		st.cancel()
		return
	}
	s.idle = st
}
