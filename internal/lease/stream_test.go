package lease

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// counted counts the streams that are opened, and the renewals that fail.
type counted struct {
	pb.LeaseClient
	streams, failures atomic.Int64
}

func (c *counted) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	c.streams.Add(1)
	return c.LeaseClient.LeaseKeepAlive(ctx, opts...)
}

// onStreams runs a test with a lease of 9 s that is kept on streams.
func onStreams(t *testing.T, test func(t *testing.T, c *simetcd.Client, remote *counted, l *Lease)) {
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		c := srv.Client("a")
		remote := &counted{LeaseClient: c.Remote()}
		start := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		l, err := Grant(ctx, ctx, Config{
			Client: c.Lease, Remote: remote, TTL: 9 * time.Second,
			Clock: func() time.Duration { return time.Since(start) },
			Answered: func(ok bool, _ error) {
				if !ok {
					remote.failures.Add(1)
				}
			},
		})
		require.NoError(t, err)
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			_ = l.Keep()
		}()
		test(t, c, remote, l)
		cancel()
		<-kept
	})
}

func TestAllRenewalsTravelOnOneStream(t *testing.T) {
	onStreams(t, func(t *testing.T, c *simetcd.Client, remote *counted, l *Lease) {
		time.Sleep(5 * time.Minute)
		require.NoError(t, l.Err())
		require.InDelta(t, 100, c.Count(simetcd.LeaseKeepAlive), 2)
		require.EqualValues(t, 1, remote.streams.Load())
	})
}

func TestAStreamThatBreaksWhileItIsIdleIsNoFailure(t *testing.T) {
	onStreams(t, func(t *testing.T, c *simetcd.Client, remote *counted, l *Lease) {
		for range 10 {
			time.Sleep(4 * time.Second)
			c.Reset()
		}
		time.Sleep(4 * time.Second)
		require.NoError(t, l.Err())
		require.Zero(t, remote.failures.Load())
		require.InDelta(t, 11, remote.streams.Load(), 1)
	})
}

func TestARenewalThatHangsDoesNotHoldUpTheNextOne(t *testing.T) {
	onStreams(t, func(t *testing.T, c *simetcd.Client, remote *counted, l *Lease) {
		time.Sleep(4 * time.Second)
		c.Cut()
		time.Sleep(5 * time.Second) // one or two renewals hang in here
		c.Heal()
		time.Sleep(time.Minute)
		require.NoError(t, l.Err())
		require.Greater(t, remote.streams.Load(), int64(1))
	})
}

func TestALeaseThatEtcdDoesNotKnowEndsOnAStreamToo(t *testing.T) {
	onStreams(t, func(t *testing.T, c *simetcd.Client, _ *counted, l *Lease) {
		_, err := c.Revoke(context.Background(), l.ID())
		require.NoError(t, err)
		<-l.Context().Done()
		require.ErrorIs(t, l.Err(), ErrRevoked)
	})
}
