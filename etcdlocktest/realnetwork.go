package etcdlocktest

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// realNetwork is a proxy between a process and a real etcd. What happens to single requests happens
// in the interceptors of the client.
type realNetwork struct {
	*faultproxy.Proxy
	real    *real
	process *Process

	mu     sync.Mutex
	healed chan struct{} // closed by the next heal; guarded by mu
}

func (n *realNetwork) cut(requests, replies bool) {
	if requests {
		n.Hold(faultproxy.ToServer)
	}
	if replies {
		n.Hold(faultproxy.ToClient)
	}
}

func (n *realNetwork) heal() {
	n.Drop()
	n.Resume()
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.healed)
	n.healed = make(chan struct{})
}

func (n *realNetwork) resume() { n.Resume() }
func (n *realNetwork) close()  { n.Close() }

func (n *realNetwork) delay(by time.Duration) {
	n.Delay(faultproxy.ToServer, by)
	n.Delay(faultproxy.ToClient, by)
}

// silence waits for an answer that does not come.
func (n *realNetwork) silence(ctx context.Context) error {
	n.mu.Lock()
	healed := n.healed
	n.mu.Unlock()
	select {
	case <-healed:
		return status.Error(codes.Unavailable, "etcdlocktest: the connection was given up")
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

func (n *realNetwork) unary(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	act := n.process.asks(req.(proto.Message))
	pause(ctx, act.DelayRequest)
	switch {
	case act.DropRequest:
		return n.silence(ctx)
	case act.Err != nil:
		return act.Err
	}
	err := invoke(ctx, method, req, reply, conn, opts...)
	if grant, ok := reply.(*pb.LeaseGrantResponse); ok && err == nil {
		n.real.grant(n.process, clientv3.LeaseID(grant.ID))
	}
	if act.DropReply {
		return n.silence(ctx)
	}
	pause(ctx, act.DelayReply)
	return err
}

// grant notes a lease.
func (r *real) grant(p *Process, id clientv3.LeaseID) {
	r.mu.Lock()
	r.granted = append(r.granted, id)
	r.mu.Unlock()
	r.etcd.fleet.uses(p, id)
}

func (n *realNetwork) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &realStream{ClientStream: s, network: n, cancel: cancel}, nil
}

// realStream is a stream of renewals or of watches.
type realStream struct {
	grpc.ClientStream
	network *realNetwork
	cancel  context.CancelFunc

	mu       sync.Mutex
	err      error    // why it was broken; guarded by mu, as is
	renewals []Action // of renewals that are still to be answered, in the order of sending
}

func (s *realStream) SendMsg(m any) error {
	msg := m.(proto.Message)
	act := s.network.process.asks(msg)
	pause(s.Context(), act.DelayRequest)
	s.mu.Lock()
	switch {
	case act.DropRequest:
		s.mu.Unlock()
		return nil
	case act.Err != nil:
		s.err = act.Err
		s.mu.Unlock()
		s.cancel()
		return act.Err
	}
	if kindOf(msg) == KindRenew {
		s.renewals = append(s.renewals, act)
	}
	s.mu.Unlock()
	return s.ClientStream.SendMsg(m)
}

// end ends the stream, and returns the fault that a test gave it, or else err.
func (s *realStream) end(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	if s.err != nil {
		return s.err
	}
	return err
}

func (s *realStream) RecvMsg(m any) error {
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return s.end(err)
		}
		if _, ok := m.(*pb.LeaseKeepAliveResponse); !ok {
			return nil
		}
		s.mu.Lock()
		var act Action
		if len(s.renewals) > 0 {
			act, s.renewals = s.renewals[0], slices.Delete(s.renewals, 0, 1)
		}
		s.mu.Unlock()
		if !act.DropReply {
			pause(s.Context(), act.DelayReply)
			return nil
		}
	}
}
