package simetcd

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// rangeAt answers a range request at the revision that its transaction has reached. The order of the steps is etcd's:
// filter, sort, then limit (but see early); Count is that of the whole range, whatever the filters and the limit leave.
func (st *store) rangeAt(r *pb.RangeRequest, current int64) (*pb.RangeResponse, error) {
	rev := r.Revision
	if rev <= 0 {
		rev = current
	}
	if err := st.readable(rev, current); err != nil {
		return nil, err
	}
	kvs := st.scan(r.Key, r.RangeEnd, rev)
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: current}, Count: int64(len(kvs))}
	if r.CountOnly {
		return resp, nil
	}
	kvs = kvs[:early(r, len(kvs))]
	kvs = slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool { return filtered(r, kv) })
	sortKVs(kvs, r.SortTarget, r.SortOrder)
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	resp.Kvs = copyKVs(kvs)
	if r.KeysOnly {
		for _, kv := range resp.Kvs {
			kv.Value = nil
			// etcd 3.7 answers from its index alone, where no lease is known, unless it has to sort by value.
			if r.SortTarget != pb.RangeRequest_VALUE {
				kv.Lease = 0
			}
		}
	}
	return resp, nil
}

// early is how many keys, the first ones, etcd reads at all: where it believes that their order is the one asked for, it
// applies the limit to the reading. It believes that of order NONE with any target too, and then sorts what it has.
func early(r *pb.RangeRequest, all int) int {
	byKey := r.SortOrder == pb.RangeRequest_NONE ||
		r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND
	filters := r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
	if !byKey || filters || r.Limit <= 0 || r.Limit >= int64(all) {
		return all
	}
	return int(r.Limit) + 1 // one more, to know whether there is more
}

// readable reports whether revision rev can be read when the present one is current; 0 stands for the present one.
func (st *store) readable(rev, current int64) error {
	switch {
	case rev > current:
		return rpctypes.ErrGRPCFutureRev
	case rev != 0 && rev < st.compacted:
		return rpctypes.ErrGRPCCompacted
	default:
		return nil
	}
}

func filtered(r *pb.RangeRequest, kv *mvccpb.KeyValue) bool {
	return r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
		r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
		r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision ||
		r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision
}

// sortKVs sorts what is sorted by key already. NONE means ascending for every target; where etcd leaves the order of
// equals open, it is by key here.
func sortKVs(kvs []*mvccpb.KeyValue, target pb.RangeRequest_SortTarget, order pb.RangeRequest_SortOrder) {
	var by func(a, b *mvccpb.KeyValue) int
	switch target {
	case pb.RangeRequest_KEY:
		by = func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }
	case pb.RangeRequest_VERSION:
		by = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		by = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		by = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		by = func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	if order == pb.RangeRequest_DESCEND {
		slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int { return by(b, a) })
		return
	}
	if target != pb.RangeRequest_KEY {
		slices.SortStableFunc(kvs, by)
	}
}
