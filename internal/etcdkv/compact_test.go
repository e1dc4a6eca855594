package etcdkv

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

// recorded is an etcd that records transactions.
type recorded struct {
	pb.KVClient
	reqs []*pb.TxnRequest
	err  error
}

func (r *recorded) Txn(_ context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	r.reqs = append(r.reqs, req)
	return &pb.TxnResponse{Succeeded: true}, r.err
}

// A compact transaction that is sent past the client's KV is what the KV would send, and has the
// same errors.
func TestCompactTransactionsAreTheSamePastTheClient(t *testing.T) {
	enter := &Compact{From: "a/", End: "a0", Key: "a/1f", Value: "{}", Lease: 0x1f}
	leave := &Compact{From: "b/1f", Created: 7, Key: "b/1f", Delete: true}
	for what, writes := range map[string][]*Compact{"enter": {enter}, "leave": {leave}, "several": {leave, enter, leave}} {
		t.Run(what, func(t *testing.T) {
			var etcd recorded
			byKV := NewWriter(WriterConfig{KV: clientv3.NewKVFromKVClient(&etcd, nil)})
			direct := NewWriter(WriterConfig{Direct: &etcd})
			resp, err := byKV.commit(t.Context(), writes...)
			require.NoError(t, err)
			same, err := direct.commit(t.Context(), writes...)
			require.NoError(t, err)
			require.Equal(t, resp.Succeeded, same.Succeeded)
			require.Len(t, etcd.reqs, 2)
			require.True(t, proto.Equal(etcd.reqs[0], etcd.reqs[1]), "%v\n%v", etcd.reqs[0], etcd.reqs[1])

			sameError := func(ctx context.Context) error {
				_, err := direct.commit(ctx, writes...)
				_, byKV := byKV.commit(ctx, writes...)
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

// A replacement of clientv3's KV may attach something to the context of a request, and so the
// context ends with the request. With clientv3's own it is kept for the next request.
func TestBesideClientv3sKVAContextEndsWithItsRequest(t *testing.T) {
	ctx, l := NewWriter(WriterConfig{}).RequestContext(t.Context(), t.Context())
	l.Release()
	require.Error(t, ctx.Err())

	ctx, l = NewWriter(WriterConfig{Direct: &recorded{}}).RequestContext(t.Context(), t.Context())
	l.Release()
	require.NoError(t, ctx.Err())
}
