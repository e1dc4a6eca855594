// Package etcdkv sends requests to etcd in the place of a client's KV and Lease.
//
// clientv3 logs each unary request that fails, at WARN, and a cancelled request fails. This library
// cancels requests in normal operation: a read of the own key when the lock is released, a wait that
// its caller gives up. So a request is first sent past clientv3's interceptor. It is sent again
// through the interceptor if its token has expired or the connection is away.
//
// A KV or a Lease that replaces clientv3's own gets the requests unchanged, with its own logging.
package etcdkv

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock/internal/leaseid"
)

// KV sends what the client's KV sends, without a line in the client's log for a request that is
// cancelled. It is the client's KV itself if that is not clientv3's own.
func KV(c *clientv3.Client) clientv3.KV { return quietly(c, c.KV) }

func quietly(c *clientv3.Client, kv clientv3.KV) clientv3.KV {
	if plainKV(c, kv) {
		return clientv3.NewKVFromKVClient(quietKV{clientv3.RetryKVClient(c)}, c)
	}
	if reflect.TypeOf(kv) == reflect.TypeOf(namespace.NewKV(nil, "")) {
		if inner, prefix, ok := unwrap[clientv3.KV](kv, "KV"); ok {
			return namespace.NewKV(quietly(c, inner), prefix)
		}
	}
	return kv
}

// unwrap returns what a namespace's KV or Lease sends by, and its prefix.
func unwrap[T any](outer T, name string) (inner T, prefix string, ok bool) {
	v := reflect.ValueOf(outer)
	by, pfx := field(v, name), field(v, "pfx")
	if fields(v) != 2 || !by.IsValid() || !by.CanInterface() || !pfx.IsValid() {
		return inner, "", false
	}
	switch pfx.Kind() {
	case reflect.String:
		prefix = pfx.String()
	case reflect.Slice:
		prefix = string(pfx.Bytes())
	default:
		return inner, "", false
	}
	inner, ok = by.Interface().(T)
	return inner, prefix, ok
}

// Lease grants, revokes and asks as the client's Lease does, without a line in the client's log
// for a request that is cancelled, and with IDs of leaseid.Ask. It is the client's Lease itself if that is not clientv3's own.
func Lease(c *clientv3.Client) clientv3.Lease { return quietLeases(c, c.Lease) }

func quietLeases(c *clientv3.Client, l clientv3.Lease) clientv3.Lease {
	switch {
	case c.ActiveConnection() == nil:
	case reflect.TypeOf(l) == typeOfLease:
		return clientv3.NewLeaseFromLeaseClient(leaseid.Choose(quietLease{clientv3.RetryLeaseClient(c)}, leaseid.Random), c, 0)
	case reflect.TypeOf(l) == reflect.TypeOf(namespace.NewLease(nil, "")):
		if inner, prefix, ok := unwrap[clientv3.Lease](l, "Lease"); ok {
			return namespace.NewLease(quietLeases(c, inner), prefix)
		}
	}
	return l
}

type quietKV struct{ pb.KVClient }

func (q quietKV) Range(ctx context.Context, req *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	return send(ctx, true, q.KVClient.Range, req, opts)
}

func (q quietKV) Put(ctx context.Context, req *pb.PutRequest, opts ...grpc.CallOption) (*pb.PutResponse, error) {
	return send(ctx, false, q.KVClient.Put, req, opts)
}

func (q quietKV) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest, opts ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return send(ctx, false, q.KVClient.DeleteRange, req, opts)
}

func (q quietKV) Txn(ctx context.Context, req *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return send(ctx, false, q.KVClient.Txn, req, opts)
}

type quietLease struct{ pb.LeaseClient }

func (q quietLease) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return send(ctx, true, q.LeaseClient.LeaseGrant, req, opts)
}

func (q quietLease) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest, opts ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return send(ctx, true, q.LeaseClient.LeaseRevoke, req, opts)
}

func (q quietLease) LeaseTimeToLive(ctx context.Context, req *pb.LeaseTimeToLiveRequest, opts ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return send(ctx, true, q.LeaseClient.LeaseTimeToLive, req, opts)
}

// send sends a request past clientv3's interceptor, and again by it where the interceptor is needed.
func send[Req, Resp any](ctx context.Context, repeatable bool, by func(context.Context, *Req, ...grpc.CallOption) (*Resp, error),
	req *Req, options []grpc.CallOption) (*Resp, error) {
	resp, err := by(ctx, req, with(options)...)
	err = noConnection(err)
	if err == nil || ctx.Err() != nil || !again(err, repeatable) {
		return resp, err
	}
	resp, byInterceptor := by(ctx, req, options...)
	if byInterceptor != nil && ctx.Err() != nil {
		return nil, err // which tells why there was no answer
	}
	return resp, byInterceptor
}

// noConnection returns err. If a deadline passed before there was a connection, it returns the reason
// why there was none: gRPC has it in the error's text, and clientv3 replaces that text by a bare
// context.DeadlineExceeded.
func noConnection(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() == codes.DeadlineExceeded {
		if _, why, found := strings.Cut(s.Message(), "latest balancer error: "); found {
			return status.Error(codes.Unavailable, why)
		}
	}
	return err
}

// again reports whether clientv3's interceptor would send a refused request again. repeatable is
// true if the request may take effect twice.
func again(err error, repeatable bool) bool {
	for _, stale := range []error{rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty} {
		if errors.Is(rpctypes.Error(err), stale) {
			return true
		}
	}
	return repeatable && status.Code(err) == codes.Unavailable
}

// with adds the option that sends a request past clientv3's interceptor. The result has no spare
// capacity, so a later append copies it.
func with(options []grpc.CallOption) []grpc.CallOption {
	return slices.Concat(options, once())
}

// once are the options by which clientv3 has its interceptor try a request once, and not log it.
// clientv3 does not export them, but opens its stream of renewals with them. Without them, as after
// a change of clientv3, requests are sent as by any user of clientv3.
var once = sync.OnceValue(func() []grpc.CallOption {
	r := &recordedStream{opened: make(chan []grpc.CallOption, 1)}
	l := clientv3.NewLeaseFromLeaseClient(r, clientv3.NewCtxClient(context.Background(), clientv3.WithZapLogger(zap.NewNop())), 0)
	defer l.Close()
	if _, err := l.KeepAlive(context.Background(), 1); err != nil {
		return nil
	}
	return slices.DeleteFunc(<-r.opened, func(o grpc.CallOption) bool { return !isRetryOption(o) })
})

// isRetryOption reports whether only clientv3's interceptor reads an option.
func isRetryOption(o grpc.CallOption) bool { return reflect.TypeOf(o).PkgPath() == packageOf }

var packageOf = reflect.TypeOf(clientv3.Client{}).PkgPath()

// recordedStream records the options that a stream of renewals is opened with. It answers nothing.
type recordedStream struct {
	pb.LeaseClient
	opened chan []grpc.CallOption
}

func (r *recordedStream) LeaseKeepAlive(ctx context.Context, options ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	select {
	case r.opened <- options:
	default:
	}
	return silentStream{ctx: ctx}, nil
}

type silentStream struct {
	pb.Lease_LeaseKeepAliveClient
	ctx context.Context
}

func (s silentStream) Context() context.Context             { return s.ctx }
func (s silentStream) Send(*pb.LeaseKeepAliveRequest) error { return nil }
func (s silentStream) CloseSend() error                     { return nil }
func (s silentStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	<-s.ctx.Done()
	return nil, s.ctx.Err()
}
