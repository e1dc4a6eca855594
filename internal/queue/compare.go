package queue

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// created compares the CreateRevision of a key. It stands in each transaction that enters or
// leaves, and clientv3.Compare would copy it by reflection.
func created(key string, rev int64) clientv3.Cmp {
	var cmp clientv3.Cmp
	c := cmp.GetCompare()
	c.Key, c.Target, c.Result = []byte(key), pb.Compare_CREATE, pb.Compare_EQUAL
	c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: rev}
	return cmp
}

// nobody holds for an empty queue.
func (q *Queue) nobody() clientv3.Cmp {
	cmp := created(q.from, 0)
	cmp.GetCompare().RangeEnd = []byte(q.end)
	return cmp
}
