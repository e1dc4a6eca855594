package queue

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// recorded is an etcd that takes note of transactions.
type recorded struct {
	pb.KVClient
	reqs []*pb.TxnRequest
	err  error
}

func (r *recorded) Txn(_ context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	r.reqs = append(r.reqs, req)
	return &pb.TxnResponse{Succeeded: true}, r.err
}

// What is sent past the client's KV is what that would send, and so are its errors.
func TestBriefWritesAreTheSamePastTheClient(t *testing.T) {
	enter := &brief{from: "a/", end: "a0", key: "a/1f", value: "{}", lease: 0x1f}
	leave := &brief{from: "b/1f", created: 7, key: "b/1f", deletes: true}
	for what, writes := range map[string][]*brief{"enter": {enter}, "leave": {leave}, "several": {leave, enter, leave}} {
		t.Run(what, func(t *testing.T) {
			var etcd recorded
			w := NewWriter(t.Context(), clientv3.NewKVFromKVClient(&etcd, nil), Lanes, nil)
			byKV, err := w.commit(t.Context(), writes...)
			require.NoError(t, err)
			w.Direct = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) { return etcd.Txn(ctx, req) }
			direct, err := w.commit(t.Context(), writes...)
			require.NoError(t, err)
			require.Equal(t, byKV.Succeeded, direct.Succeeded)
			require.Len(t, etcd.reqs, 2)
			require.True(t, proto.Equal(etcd.reqs[0], etcd.reqs[1]), "%v\n%v", etcd.reqs[0], etcd.reqs[1])

			sameError := func(ctx context.Context) error {
				_, err := w.commit(ctx, writes...)
				_, byKV := NewWriter(t.Context(), w.kv, Lanes, nil).commit(ctx, writes...)
				require.Error(t, byKV)
				require.Equal(t, byKV, err)
				return err
			}
			for _, etcd.err = range []error{rpctypes.ErrGRPCPermissionDenied, status.Error(codes.Canceled, "by the server"), context.DeadlineExceeded} {
				_ = sameError(t.Context())
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			etcd.err = status.FromContextError(over.Err()).Err()
			require.Equal(t, context.Canceled, sameError(over))
		})
	}
}

// Whoever stands in for clientv3's KV may hang something on the context of a request, for which it
// ends with the request. With clientv3's own it is kept for the next one.
func TestBesideClientv3sKVAContextEndsWithItsRequest(t *testing.T) {
	w := NewWriter(t.Context(), nil, Lanes, nil)
	ctx, l := w.RequestContext(t.Context(), t.Context())
	l.Release()
	require.Error(t, ctx.Err())

	w.Direct = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) { return nil, nil }
	ctx, l = w.RequestContext(t.Context(), t.Context())
	l.Release()
	require.NoError(t, ctx.Err())
}
