package simetcd_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestALeaseExpiresItsTTLAfterTheLastRenewalArrived(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		var deleted []time.Time
		srv.OnEvent(func(_ int64, ev *mvccpb.Event) {
			if ev.Type == mvccpb.Event_DELETE {
				deleted = append(deleted, time.Now())
			}
		})
		c.SetLatency(10*time.Millisecond, 10*time.Millisecond)
		grant, err := c.Grant(ctx, 5)
		require.NoError(t, err)
		srv.PutKey("b", "", grant.ID)
		srv.PutKey("a", "", grant.ID)
		time.Sleep(3 * time.Second)
		sent := time.Now()
		_, err = c.KeepAliveOnce(ctx, grant.ID)
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, srv.LeaseExpiry(grant.ID).Sub(sent).Truncate(time.Millisecond)-10*time.Millisecond)
		expiry, rev := srv.LeaseExpiry(grant.ID), srv.Revision()
		time.Sleep(6 * time.Second)
		synctest.Wait() // orders what the observer wrote before what comes
		require.Equal(t, []time.Time{expiry, expiry}, deleted)
		require.Equal(t, rev+1, srv.Revision(), "both keys go in one revision")
		require.Empty(t, srv.Leases())
		require.True(t, srv.LeaseExpiry(grant.ID).IsZero())
	})
}

func TestADeadLeaseIsReportedAsEtcdDoes(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		_, err := c.KeepAliveOnce(ctx, 7)
		require.ErrorIs(t, err, rpctypes.ErrLeaseNotFound)
		ttl, err := c.TimeToLive(ctx, 7, clientv3.WithAttachedKeys())
		require.NoError(t, err)
		require.EqualValues(t, -1, ttl.TTL)
		_, err = c.Revoke(ctx, 7)
		require.ErrorIs(t, err, rpctypes.ErrLeaseNotFound)

		st, err := c.Remote().LeaseKeepAlive(within(t, time.Minute))
		require.NoError(t, err)
		require.NoError(t, st.Send(&pb.LeaseKeepAliveRequest{ID: 7}))
		resp, err := st.Recv()
		require.NoError(t, err)
		require.Zero(t, resp.TTL)
		require.EqualValues(t, 7, resp.ID)
	})
}

func TestLeasesAreGrantedAsEtcdDoes(t *testing.T) {
	simulate(t, simetcd.Config{MinTTL: 2 * time.Second}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		short, err := c.Grant(ctx, 1)
		require.NoError(t, err)
		require.EqualValues(t, 2, short.TTL, "raised to the minimum")
		srv.SetMinTTL(20 * time.Second)
		long, err := c.Grant(ctx, 10)
		require.NoError(t, err)
		require.EqualValues(t, 20, long.TTL)
		_, err = c.Remote().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(long.ID), TTL: 10})
		require.ErrorIs(t, err, rpctypes.ErrGRPCLeaseExist)
		_, err = c.Grant(ctx, 9000000001)
		require.ErrorIs(t, err, rpctypes.ErrLeaseTTLTooLarge)

		list, err := c.Leases(ctx)
		require.NoError(t, err)
		require.Equal(t, []clientv3.LeaseStatus{{ID: short.ID}, {ID: long.ID}}, list.Leases, "by expiry")
		time.Sleep(time.Second)
		ttl, err := c.TimeToLive(ctx, long.ID)
		require.NoError(t, err)
		require.EqualValues(t, 18, ttl.TTL)
		require.EqualValues(t, 20, ttl.GrantedTTL)

		rev := srv.Revision()
		_, err = c.Revoke(ctx, long.ID)
		require.NoError(t, err)
		require.Equal(t, rev, srv.Revision(), "a lease without keys takes no revision")
	})
}

func TestKeepAliveKeepsALeaseAlive(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		grant, err := c.Grant(ctx, 3)
		require.NoError(t, err)
		alive, err := c.KeepAlive(ctx, grant.ID)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			for range alive {
			}
			close(done)
		}()
		time.Sleep(time.Hour)
		require.Equal(t, []clientv3.LeaseID{grant.ID}, srv.Leases())
		require.InDelta(t, 3600, c.Count(simetcd.LeaseKeepAlive), 1200, "about every TTL/3, looked at every 500ms")
		require.True(t, srv.RevokeLease(grant.ID))
		<-done
	})
}

func TestStopAndNewLeaderGiveLeasesTheirFullTTL(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		left := func(id clientv3.LeaseID) time.Duration {
			return time.Until(srv.LeaseExpiry(id)).Round(time.Microsecond)
		}
		id := srv.GrantLease(10 * time.Second)
		time.Sleep(8 * time.Second)
		require.Equal(t, 2*time.Second, left(id))
		srv.NewLeader()
		require.Equal(t, 10*time.Second, left(id))
		time.Sleep(8 * time.Second)
		srv.Stop()
		time.Sleep(time.Hour)
		require.NotEmpty(t, srv.Leases())
		srv.Start()
		require.Equal(t, 10*time.Second, left(id))
		time.Sleep(11 * time.Second)
		require.Empty(t, srv.Leases())
	})
}
