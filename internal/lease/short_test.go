package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// shortened answers each renewal with less than was granted, as etcd's grpc-proxy does
// with what is left of a lease that it has not renewed.
type shortened struct {
	clientv3.Lease
	renewals int
}

func (s *shortened) Grant(context.Context, int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ID: 1, TTL: 9}, nil
}

func (s *shortened) KeepAliveOnce(context.Context, clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	s.renewals++
	time.Sleep(time.Millisecond)
	return &clientv3.LeaseKeepAliveResponse{ID: 1, TTL: 1}, nil
}

func TestAnswersThatExtendNothingAreNeitherBelievedNorAskedForWithoutAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &shortened{}
		start := time.Now()
		l, err := Grant(t.Context(), context.Background(), Config{
			Client: client, TTL: 9 * time.Second,
			Clock: func() time.Duration { return time.Since(start) },
		}, new(clientv3.LeaseID))
		require.NoError(t, err)
		require.ErrorIs(t, l.Keep(), lockerr.ErrExpired)
		require.Less(t, time.Since(start), 10*time.Second, "by the grant, and a second at most beyond")
		require.Less(t, client.renewals, 60)
	})
}
