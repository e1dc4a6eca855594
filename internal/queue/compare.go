package queue

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// created holds if a key has this CreateRevision.
func created(key string, rev int64) clientv3.Cmp { return etcdkv.Created(key, "", rev) }

// empty holds if the queue has no entry.
func (q *Queue) empty() clientv3.Cmp { return etcdkv.Created(q.from, q.end, 0) }
