package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
)

// Counter counts what a client sends: its unary requests, and the requests on
// streams.
type Counter struct {
	mu      sync.Mutex
	unary   []string
	streams []string
}

func (c *Counter) Options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			c.mu.Lock()
			c.unary = append(c.unary, method)
			c.mu.Unlock()
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
			open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			c.note(method) // before: it may wait for a connection
			s, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, err
			}
			return &countedStream{ClientStream: s, counter: c, method: method}, nil
		}),
	}
}

func (c *Counter) note(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = append(c.streams, method)
}

// countedStream counts what is sent on a stream after the first message, which
// the opening stands for.
type countedStream struct {
	grpc.ClientStream
	counter *Counter
	method  string
	sent    atomic.Bool
}

func (s *countedStream) SendMsg(m any) error {
	if s.sent.Swap(true) {
		s.counter.note(s.method)
	}
	return s.ClientStream.SendMsg(m)
}

// During are the unary requests sent while the call runs.
func (c *Counter) During(call func()) []string {
	c.mu.Lock()
	before := len(c.unary)
	c.mu.Unlock()
	call()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.unary[before:])
}

// Count is how often a method was called.
func (c *Counter) Count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range slices.Concat(c.unary, c.streams) {
		if m == method {
			n++
		}
	}
	return n
}

func (c *Counter) KeepAlives() int { return c.Count("/etcdserverpb.Lease/LeaseKeepAlive") }

// OneTxn is what During returns for a call of one transaction.
var OneTxn = []string{"/etcdserverpb.KV/Txn"}
