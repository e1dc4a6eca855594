package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Counter counts what a client sends: its unary requests, and the requests on
// streams.
type Counter struct {
	mu      sync.Mutex
	unary   []string
	streams []string
	failed  int // unary requests that were answered by an error, or were not answered
	watches int // that etcd was asked for

	judged judgement // by Costs
}

// judgement is what was known when Costs returned the last time.
type judgement struct {
	at              time.Time
	failed, watches int
	excused         int // requests that may be sent yet
}

func (c *Counter) Options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			c.mu.Lock()
			c.unary = append(c.unary, method)
			c.mu.Unlock()
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err != nil {
				c.mu.Lock()
				c.failed++
				c.mu.Unlock()
			}
			return err
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
	if req, ok := m.(*pb.WatchRequest); ok && req.GetCreateRequest() != nil {
		s.counter.mu.Lock()
		s.counter.watches++
		s.counter.mu.Unlock()
	}
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

// Cost is what a call costs while nothing disturbs it.
type Cost struct {
	Unary   []string // the methods of its unary requests, in order
	Watches int
}

// Costs fails the test if the call costs more, or something else, than it should. What a slow
// machine or a broken stream brings about is excused from then on. Each second may cost two requests:
// one that is not answered in time is sent again, and a queue is read again in case its watch does
// not tell. So may each request that fails. Each watch beyond those that are expected may cost one
// request, as what happened before it is read: the key of a hold that lasts is watched, and a watch
// on a broken stream is opened again. Time and watches between two calls of Costs count too.
func (c *Counter) Costs(t *testing.T, want Cost, call func(), what ...any) {
	t.Helper()
	c.mu.Lock()
	if c.judged.at.IsZero() {
		c.judged = judgement{at: time.Now(), failed: c.failed, watches: c.watches}
	}
	c.mu.Unlock()
	sent := c.During(call)
	c.mu.Lock()
	last, now := c.judged, judgement{at: time.Now(), failed: c.failed, watches: c.watches}
	excused := last.excused + 2*int(now.at.Sub(last.at)/time.Second) + 2*(now.failed-last.failed) +
		max(0, now.watches-last.watches-want.Watches)
	now.excused = excused - max(0, len(sent)-len(want.Unary))
	c.judged = now
	c.mu.Unlock()
	if excused == 0 {
		require.Equal(t, fmt.Sprint(want.Unary), fmt.Sprint(sent), what...)
		return
	}
	t.Logf("disturbed: %d more requests are excused", excused)
	require.LessOrEqual(t, len(sent), len(want.Unary)+excused, "%v, excused: %d, sent: %v", what, excused, sent)
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

// Watches is how many watches etcd was asked for.
func (c *Counter) Watches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches
}

func (c *Counter) KeepAlives() int { return c.Count("/etcdserverpb.Lease/LeaseKeepAlive") }

// The methods of the requests by which names are locked.
const (
	Txn   = "/etcdserverpb.KV/Txn"
	Range = "/etcdserverpb.KV/Range"
)

// OneTxn is the cost of a call of one transaction.
var OneTxn = Cost{Unary: []string{Txn}}

// InLine is the cost of a wait in a short queue for as many names, from the call to the grant.
func InLine(names int) Cost {
	c := Cost{Unary: []string{Txn}, Watches: names}
	for range names {
		c.Unary = append(c.Unary, Range)
	}
	return c
}
