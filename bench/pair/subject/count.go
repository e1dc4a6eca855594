package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

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

// perPair returns how many requests a pair takes, of all callers, and says which. The first ones of each
// session count too.
func (s *subject) perPair(ctx context.Context, row string, span time.Duration, callers []caller) (float64, error) {
	r := &s.requests
	w, n, o := r.writes.Load(), r.reads.Load(), r.watches.Load()
	var done atomic.Int64
	all := make([]caller, len(callers))
	for i, call := range callers {
		all[i] = func(ctx context.Context) error {
			err := call(ctx)
			if err == nil {
				done.Add(1)
			}
			return err
		}
	}
	if _, err := s.pairs(ctx, span, all); err != nil {
		return 0, err
	}
	pairs := float64(done.Load())
	w, n, o = r.writes.Load()-w, r.reads.Load()-n, r.watches.Load()-o
	fmt.Fprintf(os.Stderr, "%s: %.3f writes, %.3f reads, %.3f watch messages a pair\n", row, float64(w)/pairs, float64(n)/pairs, float64(o)/pairs)
	return float64(w+n+o) / pairs, nil
}
