package etcdkv

import (
	"reflect"

	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// PlainLease reports whether the client's Lease sends renewals as clientv3 does, so that sending them
// past it skips nothing. A namespace does not concern leases. Any other replacement of clientv3's
// Lease might.
func PlainLease(c *clientv3.Client) bool {
	if c.ActiveConnection() == nil {
		return false
	}
	switch reflect.TypeOf(c.Lease) {
	case typeOfLease, reflect.TypeOf(namespace.NewLease(nil, "")):
		return true
	default:
		return false
	}
}

var typeOfLease = reflect.TypeOf(clientv3.NewLeaseFromLeaseClient(nil, nil, 0))

// plainKV reports whether a KV is clientv3's own, on the client's own connection.
func plainKV(c *clientv3.Client, kv clientv3.KV) bool {
	conn := c.ActiveConnection()
	if conn == nil || reflect.TypeOf(kv) != reflect.TypeOf(clientv3.NewKVFromKVClient(nil, nil)) {
		return false
	}
	remote, options := inner(field(reflect.ValueOf(kv), "remote")), field(reflect.ValueOf(kv), "callOpts")
	if fields(reflect.ValueOf(kv)) != 2 || fields(remote) != 1 { // with more it would do something that is not known here
		return false
	}
	return remote.Type() == reflect.TypeOf(clientv3.RetryKVClient(c)) &&
		isConn(field(field(remote, "kc"), "cc"), conn) &&
		isSlice(options, reflect.ValueOf(callOptions(c)))
}

// PlainWatcher reports whether the client's watcher is clientv3's own, on the client's own
// connection.
func PlainWatcher(c *clientv3.Client) bool {
	conn := c.ActiveConnection()
	if conn == nil || reflect.TypeOf(c.Watcher) != reflect.TypeOf(clientv3.NewWatchFromWatchClient(nil, nil)) {
		return false
	}
	// Any package can make a watcher of this type, on another connection or on none.
	return isConn(field(field(reflect.ValueOf(c.Watcher), "remote"), "cc"), conn)
}

func isConn(v reflect.Value, conn *grpc.ClientConn) bool {
	v = inner(v)
	return v.Kind() == reflect.Pointer && v.Pointer() == reflect.ValueOf(conn).Pointer()
}

// isSlice reports whether two slices share their array and length, and are not only equal.
func isSlice(v, of reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Pointer() == of.Pointer() && v.Len() == of.Len()
}

// inner returns the value in an interface.
func inner(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// field returns a field of the struct behind v. It is invalid if there is none.
func field(v reflect.Value, name string) reflect.Value {
	if v = pointee(v); v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// fields returns the number of fields of the struct behind v, 0 if v leads to no struct.
func fields(v reflect.Value) int {
	if v = pointee(v); v.Kind() != reflect.Struct {
		return 0
	}
	return v.NumField()
}

// pointee follows the interfaces and pointers of v to their end.
func pointee(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v
}
