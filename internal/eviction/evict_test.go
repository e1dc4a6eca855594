package eviction

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A notice that stays after a failed revocation would tell the next release of that hold as an eviction.
func TestANoticeIsWithdrawnWithItsRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		lease := etcd.GrantLease(time.Hour)
		key := wire.Key("x", lease)
		rev := etcd.PutKey(key, "", lease)
		etcd.Intercept(func(c simetcd.Call) simetcd.Action {
			if r, ok := c.Req.(*pb.LeaseRevokeRequest); ok && r.ID == int64(lease) {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		client := etcd.Client("a").Client
		_, err := Evict(t.Context(), client, Order{
			Name: "x", Lease: lease, Revoke: true, Notice: Notice{Reason: "stuck", Key: key, CreateRevision: rev},
		})
		require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
		n, err := Find(t.Context(), client.KV, "x", key, rev, 0)
		require.NoError(t, err)
		require.Nil(t, n)
	})
}
