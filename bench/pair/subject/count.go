package main

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// requests are counts of what all clients send to etcd.
type requests struct{ writes, reads, watches atomic.Int64 }

func (r *requests) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(r.unary), grpc.WithChainStreamInterceptor(r.stream)}
}

func (r *requests) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	switch req := req.(type) {
	case *pb.RangeRequest:
		r.reads.Add(1)
	case *pb.TxnRequest:
		if writes(req) {
			r.writes.Add(1)
		} else {
			r.reads.Add(1)
		}
	case *pb.PutRequest, *pb.DeleteRangeRequest:
		r.writes.Add(1)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// writes reports whether a transaction may write.
func writes(txn *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return true
			}
		}
	}
	return false
}

func (r *requests) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &counted{s, &r.watches}, nil
}

// counted is a stream whose messages for watches are counted.
type counted struct {
	grpc.ClientStream
	watches *atomic.Int64
}

func (c *counted) SendMsg(m any) error {
	if _, ok := m.(*pb.WatchRequest); ok {
		c.watches.Add(1)
	}
	return c.ClientStream.SendMsg(m)
}
