package etcdkv

import (
	"context"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Transactor sends a transaction as it stands.
type Transactor interface {
	Txn(ctx context.Context, req *pb.TxnRequest, options ...grpc.CallOption) (*pb.TxnResponse, error)
}

// Direct returns a Transactor that sends transactions as the client's KV does, without the copy
// that the KV makes of each comparison by reflection. It returns nil if the client's KV is not
// clientv3's own, or if clientv3 is no longer the one that plain.go knows.
func Direct(c *clientv3.Client) Transactor {
	if !plainKV(c, c.KV) {
		return nil
	}
	options := callOptions(c)
	return &direct{clientv3.RetryKVClient(c), options, with(options)}
}

type direct struct {
	remote  pb.KVClient
	options []grpc.CallOption // the client's
	once    []grpc.CallOption // the client's, past its interceptor
}

func (d *direct) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	resp, err := d.remote.Txn(ctx, req, d.once...)
	if err == nil || ctx.Err() != nil || !again(err, false) {
		return resp, err
	}
	return d.remote.Txn(ctx, req, d.options...)
}

// callOptions returns the options that the client sends its transactions with, as the largest size
// of an answer.
func callOptions(c *clientv3.Client) []grpc.CallOption {
	var options recordedOptions
	_, _ = clientv3.NewKVFromKVClient(&options, c).Txn(context.Background()).Commit()
	return options.CallOptions
}

type recordedOptions struct {
	pb.KVClient
	CallOptions []grpc.CallOption
}

func (r *recordedOptions) Txn(_ context.Context, _ *pb.TxnRequest, options ...grpc.CallOption) (*pb.TxnResponse, error) {
	r.CallOptions = options
	return &pb.TxnResponse{}, nil
}
