package etcdkv

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

// A replacement of clientv3's watcher is asked for the watches.
func TestOnlyWhatClientv3HasPutThereIsPassedOver(t *testing.T) {
	newClient := func() *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}}) // it need not connect
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, other := newClient(), newClient()
	require.True(t, PlainWatcher(c))
	require.True(t, PlainLease(c))
	c.Lease = namespace.NewLease(c.Lease, "ns/")
	require.True(t, PlainLease(c))
	c.Lease = struct{ clientv3.Lease }{c.Lease}
	require.False(t, PlainLease(c))

	own := c.Watcher
	c.Watcher = clientv3.NewWatcher(c)
	require.True(t, PlainWatcher(c))
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
		require.False(t, PlainWatcher(c), what)
	}
	c.Watcher = own
	without := clientv3.NewCtxClient(t.Context())
	without.Watcher = own
	require.False(t, PlainWatcher(without))
}

// A replacement of clientv3's KV is asked for the requests.
func TestOnlyClientv3sOwnKVIsPassedOver(t *testing.T) {
	newClient := func(cfg clientv3.Config) *clientv3.Client {
		cfg.Endpoints = []string{"127.0.0.1:1"}
		c, err := clientv3.New(cfg)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, other := newClient(clientv3.Config{}), newClient(clientv3.Config{})
	own := c.KV
	require.True(t, plainKV(c, c.KV))
	c.KV = clientv3.NewKV(c)
	require.True(t, plainKV(c, c.KV))
	for what, kv := range map[string]clientv3.KV{
		"a namespace":                 namespace.NewKV(own, "ns/"),
		"a wrapper":                   struct{ clientv3.KV }{own},
		"an ordering":                 ordering.NewKV(own, func(clientv3.Op, clientv3.OpResponse, int64) error { return nil }),
		"another connection":          other.KV,
		"another connection, new":     clientv3.NewKV(other),
		"a wrapper of the connection": clientv3.NewKVFromKVClient(struct{ pb.KVClient }{clientv3.RetryKVClient(c)}, c),
		"without its retries":         clientv3.NewKVFromKVClient(pb.NewKVClient(c.ActiveConnection()), c),
		"without its options":         clientv3.NewKVFromKVClient(clientv3.RetryKVClient(c), nil),
		"no connection":               clientv3.NewKVFromKVClient(nil, c),
		"nothing":                     nil,
	} {
		c.KV = kv
		require.False(t, plainKV(c, c.KV), what)
	}
	without := clientv3.NewCtxClient(t.Context())
	without.KV = own
	require.False(t, plainKV(without, without.KV))

	small := newClient(clientv3.Config{MaxCallSendMsgSize: 1 << 20, MaxCallRecvMsgSize: 4 << 20})
	require.True(t, plainKV(small, small.KV))
	c.KV = clientv3.NewKVFromKVClient(clientv3.RetryKVClient(c), small)
	require.False(t, plainKV(c, c.KV), "the options of another client")
}

// What goes past the client's KV goes out as that sends it, with the same options.
func TestPastTheKVARequestIsSentAsByIt(t *testing.T) {
	type sent struct {
		method  string
		req     any
		options []grpc.CallOption
	}
	var all []sent
	note := func(_ context.Context, method string, req, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, options ...grpc.CallOption) error {
		options = slices.DeleteFunc(options, func(o grpc.CallOption) bool { _, is := o.(grpc.PeerCallOption); return is }) // where to put it
		all = append(all, sent{method, req, options})
		return status.Error(codes.PermissionDenied, "no")
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"127.0.0.1:1"}, MaxCallSendMsgSize: 1 << 20, MaxCallRecvMsgSize: 4 << 20, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(note)},
	})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = c.Txn(t.Context()).Commit()
	require.Error(t, err)
	_, err = Direct(c).Txn(t.Context(), &pb.TxnRequest{})
	require.Error(t, err)
	require.Len(t, all, 2)
	require.Equal(t, all[0], all[1])
	require.Contains(t, all[1].options, grpc.MaxCallSendMsgSize(1<<20))
	require.Contains(t, all[1].options, grpc.MaxCallRecvMsgSize(4<<20))

	c.KV = namespace.NewKV(c.KV, "ns/")
	require.Nil(t, Direct(c))
}

// plain.go reads unexported fields of clientv3 by their names. If a release of clientv3 has others,
// nothing is sent past it any more: this test then fails, and names what plain.go has to learn.
func TestClientv3HasTheLayoutThatIsReliedOn(t *testing.T) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	has := func(what any, number int, name string, kind any) reflect.Value {
		v := pointee(reflect.ValueOf(what))
		if number > 0 {
			require.Equal(t, number, v.NumField(), "fields of %s", v.Type())
		}
		require.True(t, v.FieldByName(name).IsValid(), "%s has no field %s", v.Type(), name)
		f := v.FieldByName(name)
		require.Equal(t, reflect.TypeOf(kind).Elem(), f.Type(), "%s.%s", v.Type(), name)
		return f
	}
	has(c.KV, 2, "callOpts", (*[]grpc.CallOption)(nil))
	remote := has(c.KV, 2, "remote", (*pb.KVClient)(nil)).Elem()
	require.Equal(t, reflect.TypeOf(clientv3.RetryKVClient(c)), remote.Type())
	has(clientv3.RetryKVClient(c), 1, "kc", (*pb.KVClient)(nil))
	has(pb.NewKVClient(c.ActiveConnection()), 0, "cc", (*grpc.ClientConnInterface)(nil))
	has(c.Watcher, 0, "remote", (*pb.WatchClient)(nil))
	has(pb.NewWatchClient(c.ActiveConnection()), 0, "cc", (*grpc.ClientConnInterface)(nil))
	has(namespace.NewKV(c.KV, ""), 2, "KV", (*clientv3.KV)(nil))
	has(namespace.NewKV(c.KV, ""), 2, "pfx", (*string)(nil))
	has(namespace.NewLease(c.Lease, ""), 2, "Lease", (*clientv3.Lease)(nil))
	has(namespace.NewLease(c.Lease, ""), 2, "pfx", (*[]byte)(nil))
	require.NotEmpty(t, once(), "clientv3 opens its stream of renewals without the options of its interceptor")

	require.NotNil(t, Direct(c))
	require.NotEqual(t, c.KV, KV(c))
	require.NotEqual(t, c.Lease, Lease(c))
}
