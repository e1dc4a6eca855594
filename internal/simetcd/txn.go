package simetcd

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// A txn runs one request against the store as etcd does: first all compares, also those of nested transactions, and all
// checks, on the state before; then, when nothing can fail any more, the operations in order.
type txn struct {
	*writing
	leases *lessor
}

// run applies a transaction. The caller ends the writing.
func (t txn) run(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	path := t.path(r)
	if _, err := t.check(r, path); err != nil {
		return nil, err
	}
	resp, _ := t.execute(r, path)
	resp.Header.Revision = t.at()
	return resp, nil
}

// path says which branch is taken, of r itself and then of the transactions nested in that branch, in order.
func (t txn) path(r *pb.TxnRequest) []bool {
	path := []bool{t.holds(r.Compare)}
	for _, op := range branch(r, path[0]) {
		if nested := op.GetRequestTxn(); nested != nil {
			path = append(path, t.path(nested)...)
		}
	}
	return path
}

func branch(r *pb.TxnRequest, succeeded bool) []*pb.RequestOp {
	if succeeded {
		return r.Success
	}
	return r.Failure
}

// check finds out whether the operations of the chosen branches can be done. It returns how many of path's entries r
// used.
func (t txn) check(r *pb.TxnRequest, path []bool) (int, error) {
	used := 1
	for _, op := range branch(r, path[0]) {
		var err error
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			err = t.st.readable(op.RequestRange.Revision, t.st.rev)
		case *pb.RequestOp_RequestPut:
			err = t.checkPut(op.RequestPut)
		case *pb.RequestOp_RequestTxn:
			var n int
			n, err = t.check(op.RequestTxn, path[used:])
			used += n
		}
		if err != nil {
			return 0, err
		}
	}
	return used, nil
}

func (t txn) checkPut(r *pb.PutRequest) error {
	if r.Lease != 0 && t.leases.get(r.Lease) == nil {
		return rpctypes.ErrGRPCLeaseNotFound
	}
	if (r.IgnoreValue || r.IgnoreLease) && t.st.get(string(r.Key), t.st.rev) == nil {
		return rpctypes.ErrGRPCKeyNotFound
	}
	return nil
}

func (t txn) execute(r *pb.TxnRequest, path []bool) (*pb.TxnResponse, int) {
	used := 1
	ops := branch(r, path[0])
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: path[0], Responses: make([]*pb.ResponseOp, len(ops))}
	for i, op := range ops {
		out := &pb.ResponseOp{}
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			// check has seen to it that this cannot fail.
			ranged, _ := t.st.rangeAt(op.RequestRange, t.at())
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: ranged}
		case *pb.RequestOp_RequestPut:
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: t.put(op.RequestPut)}
		case *pb.RequestOp_RequestDeleteRange:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: t.deleteRange(op.RequestDeleteRange)}
		case *pb.RequestOp_RequestTxn:
			nested, n := t.execute(op.RequestTxn, path[used:])
			used += n
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: nested}
		}
		resp.Responses[i] = out
	}
	return resp, used
}

func (t txn) put(r *pb.PutRequest) *pb.PutResponse {
	prev := t.st.get(string(r.Key), t.at())
	value, lease := bytes.Clone(r.Value), r.Lease
	if r.IgnoreValue {
		value = prev.Value
	}
	if r.IgnoreLease {
		lease = prev.Lease
	}
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: t.st.rev + 1}}
	if r.PrevKv {
		resp.PrevKv = copyKV(prev)
	}
	t.writing.put(string(r.Key), value, lease)
	return resp
}

func (t txn) deleteRange(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	resp := &pb.DeleteRangeResponse{}
	if r.PrevKv {
		resp.PrevKvs = copyKVs(t.st.scan(r.Key, r.RangeEnd, t.at()))
	}
	resp.Deleted = t.writing.deleteRange(r.Key, r.RangeEnd)
	resp.Header = &pb.ResponseHeader{Revision: t.at()}
	return resp
}

func (t txn) holds(cmps []*pb.Compare) bool {
	for _, c := range cmps {
		if !t.compare(c) {
			return false
		}
	}
	return true
}

// compare returns true when the comparison holds for every key of the range. A range without keys compares as one key of
// zeroes. A comparison of its value is false, because a missing value is not an empty value.
func (t txn) compare(c *pb.Compare) bool {
	kvs := t.st.scan(c.Key, c.RangeEnd, t.st.rev)
	if len(kvs) == 0 {
		return c.Target != pb.Compare_VALUE && compareKV(c, &mvccpb.KeyValue{})
	}
	for _, kv := range kvs {
		if !compareKV(c, kv) {
			return false
		}
	}
	return true
}

func compareKV(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var result int
	switch c.Target {
	case pb.Compare_VALUE:
		result = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		result = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		result = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		result = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		result = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return result == 0
	case pb.Compare_NOT_EQUAL:
		return result != 0
	case pb.Compare_GREATER:
		return result > 0
	case pb.Compare_LESS:
		return result < 0
	default:
		return true
	}
}

// readOnly reports whether a transaction holds nothing but ranges.
func readOnly(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}
