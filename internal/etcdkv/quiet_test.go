package etcdkv

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a client of clientv3 with a function that answers its requests, behind clientv3's
// interceptor, and what it logs at WARN and above.
type rig struct {
	*clientv3.Client
	logs *observer.ObservedLogs
}

func newRig(t *testing.T, answer func(ctx context.Context, method string) error) rig {
	core, logs := observer.New(zapcore.WarnLevel)
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"127.0.0.1:1"}, Logger: zap.New(core),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
				return answer(ctx, method)
			})},
	})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return rig{c, logs}
}

// requests are all kinds of requests that are sent past clientv3's interceptor.
func requests(c *clientv3.Client) map[string]func(context.Context) error {
	kv, leases, direct := KV(c), Lease(c), Direct(c)
	all := map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { _, err := kv.Get(ctx, "k"); return err },
		"put":    func(ctx context.Context) error { _, err := kv.Put(ctx, "k", ""); return err },
		"delete": func(ctx context.Context) error { _, err := kv.Delete(ctx, "k"); return err },
		"txn":    func(ctx context.Context) error { _, err := kv.Txn(ctx).Then(clientv3.OpGet("k")).Commit(); return err },
		"grant":  func(ctx context.Context) error { _, err := leases.Grant(ctx, 10); return err },
		"revoke": func(ctx context.Context) error { _, err := leases.Revoke(ctx, 1); return err },
		"ttl":    func(ctx context.Context) error { _, err := leases.TimeToLive(ctx, 1); return err },
	}
	if direct != nil {
		all["direct"] = func(ctx context.Context) error { _, err := direct.Txn(ctx, &pb.TxnRequest{}); return err }
	}
	return all
}

// report L1
func TestACancelledRequestIsNotLogged(t *testing.T) {
	hang := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	for what, put := range map[string]func(c *clientv3.Client){
		"a client": func(*clientv3.Client) {},
		"a client in a namespace": func(c *clientv3.Client) {
			c.KV, c.Lease = namespace.NewKV(namespace.NewKV(c.KV, "a/"), "b/"), namespace.NewLease(c.Lease, "a/")
		},
	} {
		r := newRig(t, hang)
		put(r.Client)
		for kind, request := range requests(r.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			require.Error(t, request(ctx), kind)
			cancel()
			require.Empty(t, r.logs.TakeAll(), "%s: %s", what, kind)
		}
	}
}

// A namespace's prefix stays where it is.
func TestARequestInANamespaceHasItsPrefix(t *testing.T) {
	var keys []string
	note := func(_ context.Context, _ string, req, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
		keys = append(keys, string(req.(*pb.RangeRequest).Key))
		return nil
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(note)}})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.KV = namespace.NewKV(namespace.NewKV(c.KV, "a/"), "b/")
	_, err = KV(c).Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, []string{"a/b/k"}, keys)
}

// A replacement of clientv3's KV is asked itself.
func TestAStrangersKVAndLeaseAreAskedThemselves(t *testing.T) {
	c := newRig(t, nil).Client
	kv, l := struct{ clientv3.KV }{c.KV}, struct{ clientv3.Lease }{c.Lease}
	c.KV, c.Lease = kv, l
	require.Equal(t, clientv3.KV(kv), KV(c))
	require.Equal(t, clientv3.Lease(l), Lease(c))
	require.Nil(t, Direct(c))
}

// A token that ran out is had again by clientv3's interceptor; a reading that found no connection
// is tried again by it; a write that may have taken effect is not.
func TestWhatTheInterceptorIsGoodForIsLeftToIt(t *testing.T) {
	reads := []string{"get", "grant", "revoke", "ttl"}
	for _, refusal := range []error{
		rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, status.Error(codes.Unavailable, "away"),
		rpctypes.ErrGRPCPermissionDenied,
	} {
		tries := 0
		r := newRig(t, func(context.Context, string) error {
			if tries++; tries == 1 {
				return refusal
			}
			return nil
		})
		for kind, request := range requests(r.Client) {
			tries = 0
			err := request(t.Context())
			repeats := !errors.Is(refusal, rpctypes.ErrGRPCPermissionDenied) &&
				(status.Code(refusal) != codes.Unavailable || slices.Contains(reads, kind))
			if repeats {
				require.NoError(t, err, "%s: %v", kind, refusal)
				require.Equal(t, 2, tries, "%s: %v", kind, refusal)
			} else {
				require.Error(t, err, "%s: %v", kind, refusal)
				require.Equal(t, 1, tries, "%s: %v", kind, refusal)
			}
		}
	}
}
