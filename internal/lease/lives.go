package lease

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Lives reports whether a lease was renewed in the last half of its TTL, so that its process most likely
// lives. A session renews after a third of the TTL. It blocks until etcd has answered, or ctx ends. Then
// it is false.
func Lives(ctx context.Context, leases clientv3.Lease, id clientv3.LeaseID) bool {
	var resp *clientv3.LeaseTimeToLiveResponse
	_, err := etcdkv.Retry(ctx, etcdkv.Requests(int64(id)), func(ctx context.Context) (err error) {
		resp, err = leases.TimeToLive(ctx, id)
		return err
	})
	return err == nil && 2*(resp.TTL+1) > resp.GrantedTTL // etcd cuts the TTL to whole seconds
}
