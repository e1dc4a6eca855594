package etcdlock

import (
	"testing"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// Whatever somebody has put in the place of clientv3's watcher is asked for the watches.
func TestOnlyWhatClientv3HasPutThereIsPassedOver(t *testing.T) {
	newClient := func() *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}}) // it need not connect
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, other := newClient(), newClient()
	require.True(t, plainWatcher(c))
	require.True(t, plainLease(c.Lease))
	c.Lease = namespace.NewLease(c.Lease, "ns/")
	require.True(t, plainLease(c.Lease))
	c.Lease = struct{ clientv3.Lease }{c.Lease}
	require.False(t, plainLease(c.Lease))

	own := c.Watcher
	c.Watcher = clientv3.NewWatcher(c)
	require.True(t, plainWatcher(c))
	for what, w := range map[string]clientv3.Watcher{
		"a namespace":                  namespace.NewWatcher(own, "ns/"),
		"a wrapper":                    struct{ clientv3.Watcher }{own},
		"another connection":           other.Watcher,
		"another connection, new":      clientv3.NewWatcher(other),
		"a wrapper of the connection":  clientv3.NewWatchFromWatchClient(struct{ pb.WatchClient }{pb.NewWatchClient(c.ActiveConnection())}, c),
		"a watcher without connection": clientv3.NewWatchFromWatchClient(nil, c),
		"nothing":                      nil,
	} {
		c.Watcher = w
		require.False(t, plainWatcher(c), what)
	}
	c.Watcher = own
	without := clientv3.NewCtxClient(t.Context())
	without.Watcher = own
	require.False(t, plainWatcher(without))
}
