package simetcd

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// maxStagger is by how much a request is put off at most, in nanoseconds.
const maxStagger = 1 << 18

// stagger delays a request by a hash of its content if the run is reproducible. Chance would otherwise order the requests
// of one instant. It waits no longer than ctx.
func (l *link) stagger(ctx context.Context, kind Kind, req proto.Message) {
	if !l.srv.cfg.Reproducible {
		return
	}
	if txn, ok := req.(*pb.TxnRequest); ok {
		req = withoutValues(proto.Clone(txn).(*pb.TxnRequest))
	}
	// It cannot fail: what is sent has just been made by clientv3.
	content, _ := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	wait := mix(l.srv.cfg.Seed, l.salt, uint64(kind), hashName(string(content))) % maxStagger
	put := make(chan struct{})
	var ev *event
	l.locked(func() { ev = l.srv.sched.at(l.srv.sched.now()+int64(wait), func() { close(put) }) })
	select {
	case <-put:
	case <-ctx.Done():
		l.locked(func() { l.srv.sched.cancel(ev) })
	}
}

// withoutValues removes the values from a transaction, because a value may differ in each run, as by a process ID.
func withoutValues(txn *pb.TxnRequest) *pb.TxnRequest {
	for _, ops := range [][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			if put := op.GetRequestPut(); put != nil {
				put.Value = nil
			}
			if nested := op.GetRequestTxn(); nested != nil {
				withoutValues(nested)
			}
		}
	}
	return txn
}

// apart gives each watch a stream of its own. clientv3 has one for each set of outgoing metadata.
type apart struct {
	clientv3.Watcher
	opened uint64 // guarded by the server's mu
	link   *link
}

func (a *apart) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	// Chance must not order watches that are opened at one instant either.
	op := clientv3.OpGet(key, opts...)
	a.link.stagger(ctx, Watch, &pb.WatchCreateRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes(), StartRevision: op.Rev()})
	if ctx.Err() != nil {
		// clientv3 does as much, but may open a stream first, or not.
		none := make(chan clientv3.WatchResponse)
		close(none)
		return none
	}
	var n uint64
	a.link.locked(func() { a.opened++; n = a.opened })
	ctx = metadata.AppendToOutgoingContext(ctx, watchNumberKey, strconv.FormatUint(n, 10))
	return a.Watcher.Watch(ctx, key, opts...)
}

const watchNumberKey = "simetcd-watch"

// watchNumber is what Watch has given to the watch of a stream, 0 if that is none.
func watchNumber(ctx context.Context) uint64 {
	md, _ := metadata.FromOutgoingContext(ctx)
	for _, n := range md.Get(watchNumberKey) {
		v, _ := strconv.ParseUint(n, 10, 64) // written above
		return v
	}
	return 0
}

// sort gives a stream its place among the others by its mark, because streams that break at one instant are reopened at one
// instant. Called with the server's mu held.
func (l *link) sort(st *stream, mark uint64) {
	if !l.srv.cfg.Reproducible {
		return
	}
	st.mark = mark
	slices.SortStableFunc(l.streams, func(a, b *stream) int { return cmp.Compare(a.mark, b.mark) })
	l.srv.hub.sort()
}
