package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// limited is a connection to a server that lets a client have only so many streams at a time. A
// request is a stream too while it is under way; what is beyond the limit waits.
type limited struct {
	pb.KVClient
	pb.LeaseClient
	pb.WatchClient
	slots chan struct{}
}

func limit(c *simetcd.Client, streams int) *limited {
	l := &limited{c.Remote(), c.Remote(), c.Remote(), make(chan struct{}, streams)}
	c.KV = clientv3.NewKVFromKVClient(l, c.Client)
	c.Lease = struct{ clientv3.Lease }{clientv3.NewLeaseFromLeaseClient(l, c.Client, 0)}
	c.Watcher = clientv3.NewWatchFromWatchClient(l, c.Client)
	return l
}

// on has a session send everything over the connection.
func (l *limited) on(cfg *sessionConfig) {
	cfg.Hooks.Renewals, cfg.Hooks.Watches, cfg.Hooks.Direct = l, l, l
}

func (l *limited) take(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func within[Req, Resp any](ctx context.Context, l *limited, req *Req, send func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)) (*Resp, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.slots }()
	return send(ctx, req)
}

func (l *limited) Range(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return within(ctx, l, req, l.KVClient.Range)
}

func (l *limited) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return within(ctx, l, req, l.KVClient.Txn)
}

func (l *limited) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return within(ctx, l, req, l.LeaseClient.LeaseGrant)
}

func (l *limited) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return within(ctx, l, req, l.LeaseClient.LeaseRevoke)
}

func (l *limited) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { <-l.slots })
	return l.LeaseClient.LeaseKeepAlive(ctx, opts...)
}

func (l *limited) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { <-l.slots })
	return l.WatchClient.Watch(ctx, opts...)
}

// report R8: streams do not grow with sessions, locks, observers or Runs. The server's limit is 16.
func TestTwoHundredSessionsGoByAFewStreams(t *testing.T) {
	simulate(t, func(w *world) {
		const sessions, runs = 200, 40
		c := w.Client("tenants")
		l := limit(c, 16)
		var locks []*Lock
		var ends []*running
		for i := range sessions {
			s := w.session("tenants", sessionOptionFunc(l.on))
			locks = append(locks, w.lock(NewMutex(s, fmt.Sprint("tenant/", i))))
			if i < runs {
				r := w.run(NewElection(s, fmt.Sprint("service/", i)), nil, WithStopTimeout(time.Second)) // on a lease of its own
				require.NoError(w, r.term().Err())
				ends = append(ends, r)
				o := w.observe(NewElection(s, "service/0"), 0)
				defer o.cancel()
			}
		}
		require.Len(w, w.Leases(), sessions+runs)
		c.ResetCounts()
		for range 6 { // twice a TTL
			w.pass(ttl / 2)
			require.LessOrEqual(w, c.Open().Streams, 2)
		}
		require.GreaterOrEqual(w, c.Count(simetcd.LeaseKeepAlive), (sessions+runs)*8, "renewals")
		for i, s := range w.sessions {
			require.Equal(w, StateConnected, s.State())
			require.NoError(w, locks[i].Err())
		}
		// The end of some is not that of others.
		for _, r := range ends[1:] {
			r.end()
		}
		for _, s := range w.sessions[100:] {
			require.NoError(w, s.Close(w.timeout(time.Minute)))
		}
		w.pass(3 * ttl)
		var all sync.WaitGroup
		for _, lock := range locks[:100] {
			all.Go(func() {
				if err := lock.Unlock(w.timeout(time.Second)); err != nil {
					w.Error(err)
				}
			})
		}
		all.Wait()
		ends[0].end()
		for _, s := range w.sessions {
			require.NoError(w, s.Close(w.timeout(time.Minute)))
		}
		w.pass(time.Second)
		require.Zero(w, c.Open().Streams)
		require.Empty(w, l.slots)
	})
}
