package bubble

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/test/internal/env"
)

// TestTheSimulatedEtcdAnswersAsTheRealOne sends the same random requests to both, and
// compares each answer, each error, and at last all that watches tell. What the
// simulation finds is worth as much as the etcd that it simulates.
func TestTheSimulatedEtcdAnswersAsTheRealOne(t *testing.T) {
	const requests = 1000
	seeds := env.Number(t, "ETCDLOCK_DIFFERENTIAL_SEEDS", 3)
	failed := 0
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			e := newEtcd(t)
			defer e.stop()
			link := e.client()
			defer link.close()
			sim := simetcd.New(simetcd.Config{Seed: seed})
			defer sim.Close()
			conn := link.ActiveConnection()
			real := struct {
				pb.KVClient
				pb.LeaseClient
			}{pb.NewKVClient(conn), pb.NewLeaseClient(conn)}
			mock := sim.Client("differential")

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			live := []func() []string{watchAll(ctx, t, link.Client, 0), watchAll(ctx, t, mock.Client, 0)}
			d := &draw{rand.New(rand.NewPCG(seed, 7)), 1}
			for n := range requests {
				req := d.request()
				want, wantErr := send(ctx, real, req)
				got, gotErr := send(ctx, mock.Remote(), req)
				if wantErr != nil {
					failed++
				}
				require.Equal(t, errorOf(wantErr), errorOf(gotErr), "seed %d, request %d: %v", seed, n, req)
				require.Equal(t, show(want), show(got), "seed %d, request %d: %v", seed, n, req)
				if h, ok := got.(interface{ GetHeader() *pb.ResponseHeader }); ok && gotErr == nil {
					d.rev = max(d.rev, h.GetHeader().GetRevision())
				}
			}
			past := []func() []string{watchAll(ctx, t, link.Client, d.compacted()), watchAll(ctx, t, mock.Client, d.compacted())}
			time.Sleep(5 * time.Second)
			for i, both := range [][]func() []string{live, past} {
				want, got := both[0](), both[1]()
				require.NotEmpty(t, want)
				require.Equal(t, want, got, "seed %d, watch %d", seed, i)
			}
		})
	}
	t.Logf("figure: %d requests, of which %d are refused, answered alike", seeds*requests, failed)
}

// draw draws requests from a few keys and leases, so that they meet.
type draw struct {
	*rand.Rand
	rev int64 // the present one
}

// compacted is a revision that surely is not compacted away: compactions stay behind.
func (d *draw) compacted() int64 { return max(d.rev-5, 1) }

func (d *draw) key() []byte { return fmt.Appendf(nil, "k/%c", 'a'+rune(d.IntN(8))) }

// end is the end of a range: mostly none.
func (d *draw) end() []byte {
	switch d.IntN(6) {
	case 0:
		return []byte("k0")
	case 1:
		return []byte{0}
	case 2:
		return d.key()
	default:
		return nil
	}
}

func (d *draw) lease() int64 {
	if d.IntN(3) > 0 {
		return 0
	}
	return int64(1 + d.IntN(5))
}

func (d *draw) flag() bool { return d.IntN(4) == 0 }

// revision is one about now, in the past, or yet to come.
func (d *draw) revision() int64 {
	if d.IntN(2) == 0 {
		return 0
	}
	return max(d.rev-int64(d.IntN(40))+2, 0)
}

func (d *draw) request() proto.Message {
	switch d.IntN(20) {
	case 0, 1, 2:
		return d.put()
	case 3, 4, 5, 6:
		return d.ranged()
	case 7, 8:
		return d.deletion()
	case 9, 10, 11, 12, 13:
		return d.txn(0)
	case 14, 15:
		return &pb.LeaseGrantRequest{ID: int64(1 + d.IntN(5)), TTL: int64(5000 + d.IntN(3))}
	case 16:
		return &pb.LeaseRevokeRequest{ID: int64(1 + d.IntN(6))}
	case 17:
		return &pb.LeaseTimeToLiveRequest{ID: int64(1 + d.IntN(6)), Keys: d.flag()}
	case 18:
		// Not so close that a watch from the past finds it gone.
		return &pb.CompactionRequest{Revision: d.rev - 10 - int64(d.IntN(40)) + int64(d.IntN(2)*d.IntN(2)*d.IntN(2)*80)}
	default:
		return &pb.LeaseLeasesRequest{}
	}
}

func (d *draw) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: d.key(), Value: fmt.Appendf(nil, "v%d", d.IntN(4)), Lease: d.lease(), PrevKv: d.flag()}
	switch d.IntN(12) {
	case 0:
		r.IgnoreValue, r.Value = true, nil
	case 1:
		r.IgnoreLease, r.Lease = true, 0
	case 2:
		r.Key = nil
	case 3:
		r.IgnoreValue = true // with a value, which is refused
	}
	return r
}

func (d *draw) ranged() *pb.RangeRequest {
	r := &pb.RangeRequest{
		Key: d.key(), RangeEnd: d.end(), Revision: d.revision(), Limit: int64(d.IntN(3) * d.IntN(3)),
		SortOrder:  pb.RangeRequest_SortOrder(d.IntN(3)),
		SortTarget: pb.RangeRequest_SortTarget(d.IntN(5)),
		KeysOnly:   d.flag(), CountOnly: d.IntN(8) == 0, Serializable: d.flag(),
	}
	if d.flag() {
		r.MinCreateRevision, r.MaxCreateRevision = max(d.rev-20, 0), d.rev-int64(d.IntN(10))
	}
	if d.flag() {
		r.MinModRevision, r.MaxModRevision = max(d.rev-20, 0), d.rev-int64(d.IntN(10))
	}
	if d.IntN(3) > 0 {
		// Versions and values are equal often, and etcd leaves open in which order equals come.
		r.SortTarget = pb.RangeRequest_CREATE
	}
	if r.SortTarget == pb.RangeRequest_VERSION || r.SortTarget == pb.RangeRequest_VALUE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	return r
}

func (d *draw) deletion() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: d.key(), RangeEnd: d.end(), PrevKv: d.flag()}
}

func (d *draw) compare() *pb.Compare {
	c := &pb.Compare{Key: d.key(), Result: pb.Compare_CompareResult(d.IntN(4))}
	if d.IntN(5) == 0 {
		c.RangeEnd = []byte("k0")
	}
	near := max(d.rev-int64(d.IntN(12)), 0) * int64(d.IntN(4)/2+d.IntN(2)) / 2
	switch c.Target = pb.Compare_CompareTarget(d.IntN(5)); c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(d.IntN(3))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: near}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: near}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: fmt.Appendf(nil, "v%d", d.IntN(4))}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: d.lease()}
	}
	return c
}

// txn draws a transaction: of comparisons and operations, two of them on one key now and
// then, which is refused, and of transactions.
func (d *draw) txn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range d.IntN(3) {
		r.Compare = append(r.Compare, d.compare())
	}
	ops := func() (ops []*pb.RequestOp) {
		for range d.IntN(4) {
			op := &pb.RequestOp{}
			switch d.IntN(7) {
			case 0, 1:
				op.Request = &pb.RequestOp_RequestPut{RequestPut: d.put()}
			case 2:
				del := d.deletion()
				if string(del.RangeEnd) == "\x00" {
					// etcd lets it stand beside a put of one of its keys, and panics when that one keeps
					// the value or the lease (v3.7.3).
					del.RangeEnd = nil
				}
				op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}
			case 3:
				if depth < 2 {
					op.Request = &pb.RequestOp_RequestTxn{RequestTxn: d.txn(depth + 1)}
					break
				}
				fallthrough
			default:
				op.Request = &pb.RequestOp_RequestRange{RequestRange: d.ranged()}
			}
			ops = append(ops, op)
		}
		return ops
	}
	r.Success, r.Failure = ops(), ops()
	return r
}

// etcdAPI is what requests are sent to.
type etcdAPI interface {
	pb.KVClient
	pb.LeaseClient
}

func send(ctx context.Context, to etcdAPI, req proto.Message) (proto.Message, error) {
	switch req := req.(type) {
	case *pb.PutRequest:
		return answer(to.Put(ctx, req))
	case *pb.RangeRequest:
		return answer(to.Range(ctx, req))
	case *pb.DeleteRangeRequest:
		return answer(to.DeleteRange(ctx, req))
	case *pb.TxnRequest:
		return answer(to.Txn(ctx, req))
	case *pb.CompactionRequest:
		return answer(to.Compact(ctx, req))
	case *pb.LeaseGrantRequest:
		return answer(to.LeaseGrant(ctx, req))
	case *pb.LeaseRevokeRequest:
		return answer(to.LeaseRevoke(ctx, req))
	case *pb.LeaseTimeToLiveRequest:
		return answer(to.LeaseTimeToLive(ctx, req))
	case *pb.LeaseLeasesRequest:
		return answer(to.LeaseLeases(ctx, req))
	default:
		panic(fmt.Sprintf("%T", req))
	}
}

func answer[M proto.Message](m M, err error) (proto.Message, error) { return m, err }

// show is an answer without what differs from cluster to cluster.
func show(m proto.Message) string {
	if m == nil || !m.ProtoReflect().IsValid() {
		return "none"
	}
	m = proto.Clone(m)
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		anonymous(h.GetHeader())
	}
	switch r := m.(type) {
	case *pb.TxnResponse:
		anonymousParts(r)
	case *pb.LeaseLeasesResponse:
		// In the order of their ends, which differ by latencies.
		byID := make(map[int64]*pb.LeaseStatus)
		for _, l := range r.Leases {
			byID[l.ID] = l
		}
		r.Leases = nil
		for id := range int64(8) {
			if byID[id] != nil {
				r.Leases = append(r.Leases, byID[id])
			}
		}
	case *pb.LeaseTimeToLiveResponse:
		r.TTL = (r.TTL + 50) / 100 // counted from when the request came
		slices.SortFunc(r.Keys, bytes.Compare)
	}
	return prototext.MarshalOptions{Multiline: true}.Format(m)
}

func anonymous(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}

func anonymousParts(r *pb.TxnResponse) {
	for _, part := range r.Responses {
		anonymous(part.GetResponseRange().GetHeader())
		anonymous(part.GetResponsePut().GetHeader())
		anonymous(part.GetResponseDeleteRange().GetHeader())
		if txn := part.GetResponseTxn(); txn != nil {
			anonymous(txn.GetHeader())
			anonymousParts(txn)
		}
	}
}

func errorOf(err error) string {
	if err == nil {
		return "none"
	}
	s := status.Convert(err)
	return fmt.Sprintf("%v: %s", s.Code(), s.Message())
}

// watchAll watches all keys from a revision on; what it returns ends the watch and
// returns what it told.
func watchAll(ctx context.Context, t *testing.T, c *clientv3.Client, rev int64) func() []string {
	ctx, cancel := context.WithCancel(ctx)
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithPrevKV()}
	if rev > 0 {
		opts = append(opts, clientv3.WithRev(rev))
	}
	var told []string
	done := make(chan struct{})
	events := c.Watch(ctx, "k/", append(opts, clientv3.WithCreatedNotify())...)
	<-events
	go func() {
		defer close(done)
		for resp := range events {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				told = append(told, err.Error())
			}
			for _, ev := range resp.Events {
				told = append(told, fmt.Sprintf("%v %s=%s %d/%d/%d lease %d, before: %v", ev.Type, ev.Kv.Key, ev.Kv.Value,
					ev.Kv.CreateRevision, ev.Kv.ModRevision, ev.Kv.Version, ev.Kv.Lease, string(ev.PrevKv.GetValue())))
			}
		}
	}()
	return func() []string {
		cancel()
		<-done
		return told
	}
}
