package queue

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// created compares the CreateRevision of a key.
func created(key string, rev int64) clientv3.Cmp { return allCreated(key, "", rev) }

// allCreated compares that of each key in a range; without an end, of the key from. It stands in
// each transaction that enters or leaves, and clientv3.Compare would copy it by reflection.
func allCreated(from, end string, rev int64) clientv3.Cmp {
	var cmp clientv3.Cmp
	c := cmp.GetCompare()
	c.Key, c.Target, c.Result = []byte(from), pb.Compare_CREATE, pb.Compare_EQUAL
	if end != "" {
		c.RangeEnd = []byte(end)
	}
	c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: rev}
	return cmp
}

// nobody holds for an empty queue.
func (q *Queue) nobody() clientv3.Cmp { return allCreated(q.from, q.end, 0) }
