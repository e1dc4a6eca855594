package queue

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// memo is what an entry that comes soon after another one need not make again.
type memo struct {
	limit int64 // of peek
	peek  clientv3.Op
	of    Want // of key
	key   string
}

// keyOf returns our key under a name. It is mostly the same as in the last call.
func (m *memo) keyOf(name string, w Want) string {
	if m.of.Lease != w.Lease || m.of.Slot != w.Slot {
		m.of, m.key = Want{Lease: w.Lease, Slot: w.Slot}, wire.SlotKey(name, w.Lease, w.Slot)
	}
	return m.key
}

// reading returns the operation that reads some keys of a queue.
func (m *memo) reading(l *line, limit int64) clientv3.Op {
	if m.limit != limit {
		m.limit, m.peek = limit, clientv3.OpGet(l.from, clientv3.WithRange(l.end), clientv3.WithLimit(limit), clientv3.WithKeysOnly())
	}
	return m.peek
}
