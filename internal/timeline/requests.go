package timeline

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Of returns a KV that sends requests by kv and shows the answers to a tracker, and that tracker.
// A KV that was returned by Of before keeps its tracker.
func Of(kv clientv3.KV) (clientv3.KV, *Tracker) {
	if own, ok := kv.(*trackedKV); ok {
		return own, own.tracker
	}
	t := &Tracker{}
	return &trackedKV{kv, t}, t
}

// trackedKV shows what Get, Put, Delete and Txn answer. The other methods are not used by this
// module.
type trackedKV struct {
	clientv3.KV
	tracker *Tracker
}

func (k *trackedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	m := k.tracker.Ask()
	resp, err := k.KV.Get(ctx, key, opts...)
	if err == nil && !clientv3.OpGet(key, opts...).IsSerializable() {
		k.tracker.Answered(m, resp.Header)
	}
	return resp, err
}

func (k *trackedKV) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	m := k.tracker.Ask()
	resp, err := k.KV.Put(ctx, key, val, opts...)
	if err == nil {
		k.tracker.Answered(m, resp.Header)
	}
	return resp, err
}

func (k *trackedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	m := k.tracker.Ask()
	resp, err := k.KV.Delete(ctx, key, opts...)
	if err == nil {
		k.tracker.Answered(m, resp.Header)
	}
	return resp, err
}

func (k *trackedKV) Txn(ctx context.Context) clientv3.Txn {
	return &trackedTxn{k.KV.Txn(ctx), k.tracker}
}

// trackedTxn must not consist of serializable reads alone: etcd serves such a transaction from a
// single member.
type trackedTxn struct {
	clientv3.Txn
	tracker *Tracker
}

func (t *trackedTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(cs...)
	return t
}

func (t *trackedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(ops...)
	return t
}

func (t *trackedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(ops...)
	return t
}

func (t *trackedTxn) Commit() (*clientv3.TxnResponse, error) {
	m := t.tracker.Ask()
	resp, err := t.Txn.Commit()
	if err == nil {
		t.tracker.Answered(m, resp.Header)
	}
	return resp, err
}

// Transactor returns a Transactor that sends by another one and shows the answers to the tracker.
// It returns nil for nil.
func (t *Tracker) Transactor(by etcdkv.Transactor) etcdkv.Transactor {
	if by == nil {
		return nil
	}
	return &trackedTransactor{by, t}
}

type trackedTransactor struct {
	by      etcdkv.Transactor
	tracker *Tracker
}

func (t *trackedTransactor) Txn(ctx context.Context, req *pb.TxnRequest, options ...grpc.CallOption) (*pb.TxnResponse, error) {
	m := t.tracker.Ask()
	resp, err := t.by.Txn(ctx, req, options...)
	if err == nil {
		t.tracker.Answered(m, resp.Header)
	}
	return resp, err
}

// Leases returns a Lease that sends by l, and shows the answers to Grant.
func (t *Tracker) Leases(l clientv3.Lease) clientv3.Lease { return &trackedLeases{l, t} }

type trackedLeases struct {
	clientv3.Lease
	tracker *Tracker
}

// Grant fails if etcd may have granted the lease in an earlier timeline than the present one.
func (l *trackedLeases) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	m := l.tracker.Ask()
	resp, err := l.Lease.Grant(ctx, ttl)
	if err == nil && !l.tracker.Answered(m, resp.ResponseHeader) {
		return nil, errEarlier
	}
	return resp, err
}

// errEarlier counts as a missing answer, so that the request is sent again.
var errEarlier = status.Error(codes.Aborted, "etcd's data was replaced while it answered")
