package simetcd

import (
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maxTxnOps is etcd's default of --max-txn-ops, and maxRequestBytes that of --max-request-bytes.
const (
	maxTxnOps       = 128
	maxRequestBytes = 3 << 19 // 1.5 MiB
)

func checkRange(r *pb.RangeRequest) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if _, ok := pb.RangeRequest_SortOrder_name[int32(r.SortOrder)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if _, ok := pb.RangeRequest_SortTarget_name[int32(r.SortTarget)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	default:
		return nil
	}
}

func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkTxn refuses what etcd refuses before a transaction gets near the store.
func checkTxn(r *pb.TxnRequest, maxOps int) error {
	if proto.Size(r) > maxRequestBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	if err := checkOps(r, maxOps); err != nil {
		return err
	}
	if _, _, err := checkOverlaps(r.Success); err != nil {
		return err
	}
	_, _, err := checkOverlaps(r.Failure)
	return err
}

func checkOps(r *pb.TxnRequest, left int) error {
	n := max(len(r.Compare), len(r.Success), len(r.Failure))
	if n > left {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if err := checkOp(op, left-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, left int) error {
	switch op := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(op.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(op.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(op.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkOps(op.RequestTxn, left)
	default:
		return rpctypes.ErrGRPCKeyNotFound
	}
}

// A span is the range of a deletion.
type span struct{ key, end string }

func covered(spans []span, key string) bool {
	for _, s := range spans {
		// etcd does not check deletions of "all from here on", which may be a mistake.
		if s.end != fromKey && inRange(key, s.key, s.end) {
			return true
		}
	}
	return false
}

// checkOverlaps refuses a key that one transaction would put twice, or put and delete. The branches of a nested
// transaction exclude each other, so they may put the same key.
func checkOverlaps(ops []*pb.RequestOp) (puts map[string]struct{}, dels []span, err error) {
	for _, op := range ops {
		if del := op.GetRequestDeleteRange(); del != nil {
			dels = append(dels, span{string(del.Key), string(del.RangeEnd)})
		}
	}
	puts = make(map[string]struct{})
	for _, op := range ops {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		then, thenDels, err := checkOverlaps(nested.Success)
		if err != nil {
			return nil, nil, err
		}
		other, otherDels, err := checkOverlaps(nested.Failure)
		if err != nil {
			return nil, nil, err
		}
		for k := range other {
			then[k] = struct{}{}
		}
		for k := range then {
			if _, twice := puts[k]; twice || covered(dels, k) {
				return nil, nil, rpctypes.ErrGRPCDuplicateKey
			}
		}
		for k := range then {
			puts[k] = struct{}{}
		}
		dels = append(append(dels, thenDels...), otherDels...)
	}
	for _, op := range ops {
		put := op.GetRequestPut()
		if put == nil {
			continue
		}
		if _, twice := puts[string(put.Key)]; twice || covered(dels, string(put.Key)) {
			return nil, nil, rpctypes.ErrGRPCDuplicateKey
		}
		puts[string(put.Key)] = struct{}{}
	}
	return puts, dels, nil
}
