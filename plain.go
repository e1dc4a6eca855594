package etcdlock

import (
	"context"
	"reflect"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock/internal/watch"
)

// plainLease tells whether renewals through l are what clientv3 sends by itself, so
// that nothing is passed over by sending them without l. A namespace does not concern
// leases; whatever else somebody has put there might.
func plainLease(l clientv3.Lease) bool {
	switch reflect.TypeOf(l) {
	case reflect.TypeOf(clientv3.NewLeaseFromLeaseClient(nil, nil, 0)), reflect.TypeOf(namespace.NewLease(nil, "")):
		return true
	default:
		return false
	}
}

// transact is a transaction as etcd's client sends it.
type transact = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)

// newTransact sends transactions in the place of the client's KV, which copies each comparison by
// reflection before it does the same; nil if there is something else than clientv3 has put there.
func (s *Session) newTransact() transact {
	if s.cfg.transact != nil || !plainKV(s.client) {
		return s.cfg.transact
	}
	remote, options := clientv3.RetryKVClient(s.client), callOptions(s.client)
	return func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
		return remote.Txn(ctx, req, options...)
	}
}

// callOptions are those that the client sends its transactions with, as of the largest size of an
// answer.
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

// plainKV tells whether the client's KV is clientv3's own, on the client's own connection.
func plainKV(c *clientv3.Client) bool {
	conn := c.ActiveConnection()
	if conn == nil || reflect.TypeOf(c.KV) != reflect.TypeOf(clientv3.NewKVFromKVClient(nil, nil)) {
		return false
	}
	remote, options := inner(field(reflect.ValueOf(c.KV), "remote")), field(reflect.ValueOf(c.KV), "callOpts")
	if fields(reflect.ValueOf(c.KV)) != 2 || fields(remote) != 1 { // with more it would do something that is not known here
		return false
	}
	return remote.Type() == reflect.TypeOf(clientv3.RetryKVClient(c)) &&
		isConn(field(field(remote, "kc"), "cc"), conn) &&
		isSlice(options, reflect.ValueOf(callOptions(c)))
}

// newWatcher stands in for the client's watcher, if that is what clientv3 has put there: a
// namespace does concern watches.
func (s *Session) newWatcher() clientv3.Watcher {
	remote := s.cfg.watches
	if remote == nil && plainWatcher(s.client) {
		remote = pb.NewWatchClient(s.client.ActiveConnection())
	}
	if remote == nil {
		return s.client.Watcher
	}
	return watch.New(s.ctx, s.client.Watcher, remote, s.spawn)
}

// plainWatcher tells whether the client's watcher is clientv3's own, on the client's own
// connection.
func plainWatcher(c *clientv3.Client) bool {
	conn := c.ActiveConnection()
	if conn == nil || reflect.TypeOf(c.Watcher) != reflect.TypeOf(clientv3.NewWatchFromWatchClient(nil, nil)) {
		return false
	}
	// Anybody can make one of this type, on another connection, or on none.
	return isConn(field(field(reflect.ValueOf(c.Watcher), "remote"), "cc"), conn)
}

func isConn(v reflect.Value, conn *grpc.ClientConn) bool {
	v = inner(v)
	return v.Kind() == reflect.Pointer && v.Pointer() == reflect.ValueOf(conn).Pointer()
}

// isSlice tells whether two slices are one, and not only equal.
func isSlice(v, of reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Pointer() == of.Pointer() && v.Len() == of.Len()
}

// inner is what an interface holds.
func inner(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// field is that of the struct behind v; invalid if there is none.
func field(v reflect.Value, name string) reflect.Value {
	if v = pointee(v); v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// fields is how many the struct behind v has; 0 if there is none.
func fields(v reflect.Value) int {
	if v = pointee(v); v.Kind() != reflect.Struct {
		return 0
	}
	return v.NumField()
}

// pointee is what v leads to.
func pointee(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v
}
