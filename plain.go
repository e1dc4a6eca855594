package etcdlock

import (
	"reflect"

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
	cc := field(field(reflect.ValueOf(c.Watcher), "remote"), "cc")
	for cc.Kind() == reflect.Interface {
		cc = cc.Elem()
	}
	return cc.Kind() == reflect.Pointer && cc.Pointer() == reflect.ValueOf(conn).Pointer()
}

// field is that of the struct behind v; invalid if there is none.
func field(v reflect.Value, name string) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}
