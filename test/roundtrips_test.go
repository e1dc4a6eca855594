package test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/etcdlock/etcdlock"
)

// counter counts what a client sends: its unary requests, and the requests on
// streams.
type counter struct {
	mu      sync.Mutex
	unary   []string
	streams []string
}

func (c *counter) options() []grpc.DialOption {
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

func (c *counter) note(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = append(c.streams, method)
}

// countedStream counts what is sent on a stream after the first message, which
// the opening stands for.
type countedStream struct {
	grpc.ClientStream
	counter *counter
	method  string
	sent    atomic.Bool
}

func (s *countedStream) SendMsg(m any) error {
	if s.sent.Swap(true) {
		s.counter.note(s.method)
	}
	return s.ClientStream.SendMsg(m)
}

// during are the unary requests sent while the call runs.
func (c *counter) during(call func()) []string {
	c.mu.Lock()
	before := len(c.unary)
	c.mu.Unlock()
	call()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.unary[before:])
}

// count is how often a method was called.
func (c *counter) count(method string) int {
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

func (c *counter) keepAlives() int { return c.count("/etcdserverpb.Lease/LeaseKeepAlive") }

var oneTxn = []string{"/etcdserverpb.KV/Txn"}

func TestTheRoundTripsAreThoseOfTheDesign(t *testing.T) {
	f := newFixture(t)
	var c counter
	s := f.session(f.client(c.options()...), 60*time.Second)
	m, e := etcdlock.NewMutex(s, "lock"), etcdlock.NewElection(s, "election")
	ctx := f.ctx()

	for round := range 3 { // the first one is no different
		var l *etcdlock.Lock
		var term *etcdlock.Term
		var err error
		require.Equal(t, oneTxn, c.during(func() { l, err = m.Lock(ctx) }), "lock, round %d", round)
		require.NoError(t, err)
		require.Equal(t, oneTxn, c.during(func() { err = l.Unlock(ctx) }), "unlock, round %d", round)
		require.NoError(t, err)
		require.Equal(t, oneTxn, c.during(func() { l, err = m.TryLock(ctx) }), "TryLock on a free lock, round %d", round)
		require.NoError(t, err)
		require.NoError(t, l.Unlock(ctx))
		require.Equal(t, oneTxn, c.during(func() { term, err = e.Campaign(ctx, "x") }), "campaign, round %d", round)
		require.NoError(t, err)
		require.Equal(t, oneTxn, c.during(func() { err = term.Proclaim(ctx, "y") }), "proclaim, round %d", round)
		require.NoError(t, err)
		require.Equal(t, oneTxn, c.during(func() { err = term.Resign(ctx) }), "resign, round %d", round)
		require.NoError(t, err)
	}
}

// trap A13
func TestATryLockOnATakenLockCostsOneRequestAndNoWrite(t *testing.T) {
	f := newFixture(t)
	l, err := etcdlock.NewMutex(f.session(f.client(), 10*time.Second), "lock").Lock(f.ctx())
	require.NoError(t, err)
	var c counter
	m := etcdlock.NewMutex(f.session(f.client(c.options()...), 10*time.Second), "lock")
	before := f.revision()
	for range 3 {
		require.Equal(t, oneTxn, c.during(func() { _, err = m.TryLock(f.ctx()) }))
		require.ErrorIs(t, err, etcdlock.ErrLocked)
	}
	require.Equal(t, before, f.revision(), "something was written")
	release(t, l)
}

func TestWaitingCostsTwoRequestsAndTheHandoverAtMostOneRead(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.session(f.client(), 10*time.Second), "lock").Lock(f.ctx())
	require.NoError(t, err)
	var c counter
	m := etcdlock.NewMutex(f.session(f.client(c.options()...), 10*time.Second), "lock")
	var waiting <-chan outcome[*etcdlock.Lock]
	sent := c.during(func() {
		waiting = lockInBackground(f.ctx(), m)
		f.waitForKeys("lock", 2)
		stillWaiting(t, waiting, 100*time.Millisecond)
	})
	t.Logf("figure: to be in line: %v", sent)
	require.LessOrEqual(t, len(sent), 2, "to be in line: %v", sent)
	sent = c.during(func() { stillWaiting(t, waiting, 500*time.Millisecond) })
	t.Logf("figure: to stay in line for longer: %v", sent)
	require.LessOrEqual(t, len(sent), 1, "to watch the own key, too: %v", sent)
	var next *etcdlock.Lock
	sent = c.during(func() {
		release(t, holder)
		next = granted(t, waiting).handle
	})
	t.Logf("figure: handover: %v", sent)
	require.LessOrEqual(t, len(sent), 1, "handover: %v", sent)
	release(t, next)
}

func TestSiblingsOfTheHolderWaitWithoutARequest(t *testing.T) {
	f := newFixture(t)
	var c counter
	s := f.session(f.client(c.options()...), 10*time.Second)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.NoError(t, err)
	var waiting [3]<-chan outcome[*etcdlock.Lock]
	sent := c.during(func() {
		_, err := etcdlock.NewMutex(s, "lock").TryLock(f.ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		for i := range waiting {
			waiting[i] = lockInBackground(f.ctx(), etcdlock.NewMutex(s, "lock"))
			stillWaiting(t, waiting[i], 20*time.Millisecond)
		}
	})
	require.Empty(t, sent, "siblings of the holder wait without a request")
	sent = c.during(func() {
		release(t, l)
		for _, w := range waiting {
			l := granted(t, w).handle
			require.NoError(t, l.Err())
			release(t, l)
		}
	})
	t.Logf("figure: 3 handovers inside one process and the last unlock: %d requests", len(sent))
	f.waitForKeys("lock", 0)
}
