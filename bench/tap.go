package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// tap listens to what a client says to etcd, whatever library says it.
type tap struct {
	mu         sync.Mutex
	entered    time.Time // a write was answered, the first since reset
	last       time.Time // any request was answered
	keepalives int
	streams    int // of keepalives
}

func (t *tap) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(t.unary),
		grpc.WithChainStreamInterceptor(t.stream),
	}
}

func (t *tap) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entered, t.last, t.keepalives, t.streams = time.Time{}, time.Time{}, 0, 0
}

// answered tells when the first write and the last request were answered.
func (t *tap) answered() (entered, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entered, t.last
}

func (t *tap) renewals() (keepalives, streams int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.keepalives, t.streams
}

func (t *tap) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = now
	if err == nil && t.entered.IsZero() && writes(req) {
		t.entered = now
	}
	return err
}

// writes tells whether a request may put a key.
func writes(req any) bool {
	switch r := req.(type) {
	case *pb.PutRequest:
		return true
	case *pb.TxnRequest:
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				if op.GetRequestPut() != nil || op.GetRequestTxn() != nil {
					return true
				}
			}
		}
	}
	return false
}

func (t *tap) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/LeaseKeepAlive") {
		return s, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams++
	return &tappedStream{s, t}, nil
}

type tappedStream struct {
	grpc.ClientStream
	tap *tap
}

func (s *tappedStream) SendMsg(m any) error {
	s.tap.mu.Lock()
	s.tap.keepalives++
	s.tap.mu.Unlock()
	return s.ClientStream.SendMsg(m)
}
