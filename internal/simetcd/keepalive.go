package simetcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// LeaseKeepAlive opens a stream on which each message renews a lease.
func (r remote) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	st, err := r.open(ctx, false)
	if err != nil {
		return nil, err
	}
	return keepAliveStream{st}, nil
}

type keepAliveStream struct{ *stream }

// Send sends one renewal. It takes effect on arrival, also when the client has closed the stream by then; the server
// listens no more only to a stream that it has broken itself.
func (k keepAliveStream) Send(req *pb.LeaseKeepAliveRequest) error {
	return k.send(LeaseKeepAlive, req, func(act Action, answer func(any)) {
		if k.severed && !k.over {
			return
		}
		if act.Err != nil {
			k.breakOff(act.Err)
			return
		}
		s := k.l.srv
		// The TTL of a lease that is gone is 0.
		resp := &pb.LeaseKeepAliveResponse{Header: s.member.header(&pb.ResponseHeader{}), ID: req.ID}
		if l := s.lessor.get(req.ID); l != nil {
			s.lessor.refresh(l)
			resp.TTL = l.ttl
		}
		answer(resp)
	})
}

func (k keepAliveStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	msg, err := k.recv()
	if err != nil {
		return nil, err
	}
	return msg.(*pb.LeaseKeepAliveResponse), nil
}
