package etcdlock_test

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Each example runs on an etcd in memory. A program says instead:
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
//
// The etcd is not closed: when its client is, it has no goroutine.
func newClient() *clientv3.Client {
	return simetcd.New(simetcd.Config{}).Client("example").Client
}
