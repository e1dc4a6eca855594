package etcdkv

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Compact is a transaction in its compact form: what it does if it meets what it expects, which is
// one comparison and one operation. In a batch it costs half of the work of a transaction within
// the transaction, for etcd and for its client. But all comparisons of a compact batch hold or fail
// together. If one fails, the batch does nothing and is sent again in the general form.
type Compact struct {
	// The transaction expects that the key From has this create revision. With an End it expects
	// that of each key in the range. 0 stands for no key.
	From, End string
	Created   int64

	// Then it puts Key with Value and Lease, or deletes Key.
	Key    string
	Value  string
	Lease  clientv3.LeaseID
	Delete bool

	// Unread is how many reads of the general form come before the write. They find nothing if the
	// comparison holds.
	Unread int
}

// Created compares the create revision of a key, or with an end of each key in a range. It is part
// of each transaction that enters or leaves a queue, and clientv3.Compare would copy it by
// reflection.
func Created(from, end string, rev int64) clientv3.Cmp {
	var cmp clientv3.Cmp
	c := cmp.GetCompare()
	c.Key, c.Target, c.Result = []byte(from), pb.Compare_CREATE, pb.Compare_EQUAL
	if end != "" {
		c.RangeEnd = []byte(end)
	}
	c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: rev}
	return cmp
}

func (c *Compact) cmp() clientv3.Cmp { return Created(c.From, c.End, c.Created) }

func (c *Compact) op() clientv3.Op {
	if c.Delete {
		return clientv3.OpDelete(c.Key)
	}
	return clientv3.OpPut(c.Key, c.Value, clientv3.WithLease(c.Lease))
}

// request is op as it is sent.
func (c *Compact) request() *pb.RequestOp {
	if c.Delete {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(c.Key)}}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
		Key: []byte(c.Key), Value: []byte(c.Value), Lease: int64(c.Lease),
	}}}
}

// commit sends compact transactions as one.
func (w *Writer) commit(ctx context.Context, all ...*Compact) (*clientv3.TxnResponse, error) {
	if w.config.Direct == nil {
		cmps, ops := make([]clientv3.Cmp, len(all)), make([]clientv3.Op, len(all))
		for i, c := range all {
			cmps[i], ops[i] = c.cmp(), c.op()
		}
		return w.config.KV.Txn(ctx).If(cmps...).Then(ops...).Commit()
	}
	req := &pb.TxnRequest{Compare: make([]*pb.Compare, len(all)), Success: make([]*pb.RequestOp, len(all))}
	for i, c := range all {
		cmp := c.cmp()
		req.Compare[i], req.Success[i] = cmp.GetCompare(), c.request()
	}
	resp, err := w.config.Direct.Txn(ctx, req)
	if err != nil {
		return nil, clientv3.ContextError(ctx, err)
	}
	return (*clientv3.TxnResponse)(resp), nil
}

// sendCompact sends a batch with its transactions in their compact form where they have one. It
// returns nil without an error if a comparison failed, and nothing was done.
func (w *Writer) sendCompact(ctx context.Context, batch []*write) ([]*clientv3.TxnResponse, error) {
	resp, err := w.commitCompact(ctx, batch)
	if err != nil || !resp.Succeeded {
		return nil, err
	}
	all := make([]*clientv3.TxnResponse, len(batch))
	for i, done := range resp.Responses {
		if c := batch[i].Compact; c != nil {
			all[i] = c.answer(resp.Header, done)
		} else {
			all[i] = answerOf(resp.Header, done)
		}
	}
	return all, nil
}

func (w *Writer) commitCompact(ctx context.Context, batch []*write) (*clientv3.TxnResponse, error) {
	compact := make([]*Compact, 0, len(batch))
	for _, wr := range batch {
		if wr.Compact != nil {
			compact = append(compact, wr.Compact)
		}
	}
	if len(compact) == len(batch) {
		return w.commit(ctx, compact...)
	}
	cmps, ops := make([]clientv3.Cmp, len(compact)), make([]clientv3.Op, len(batch))
	for i, c := range compact {
		cmps[i] = c.cmp()
	}
	for i, wr := range batch {
		if wr.Compact != nil {
			ops[i] = wr.Compact.op()
		} else {
			ops[i] = wr.inGeneral()
		}
	}
	return w.config.KV.Txn(ctx).If(cmps...).Then(ops...).Commit()
}

// onlyCompact reports whether the compact form is the whole transaction.
func (t *Txn) onlyCompact() bool { return t.Compact != nil && t.Then == nil }

// inGeneral returns the transaction in its general form, as a part of another one.
func (t *Txn) inGeneral() clientv3.Op {
	if t.onlyCompact() {
		return clientv3.OpTxn([]clientv3.Cmp{t.Compact.cmp()}, []clientv3.Op{t.Compact.op()}, nil)
	}
	return clientv3.OpTxn(t.If, t.Then, t.Else)
}

var readNothing = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}}

// answer is the answer that the general form would have had.
func (c *Compact) answer(header *pb.ResponseHeader, done *pb.ResponseOp) *clientv3.TxnResponse {
	all := make([]*pb.ResponseOp, 0, c.Unread+1)
	for range c.Unread {
		all = append(all, readNothing)
	}
	return (*clientv3.TxnResponse)(&pb.TxnResponse{Header: header, Succeeded: true, Responses: append(all, done)})
}

// answerOf is the answer to a part of a transaction.
func answerOf(header *pb.ResponseHeader, done *pb.ResponseOp) *clientv3.TxnResponse {
	part := done.GetResponseTxn()
	return (*clientv3.TxnResponse)(&pb.TxnResponse{Header: header, Succeeded: part.Succeeded, Responses: part.Responses})
}

// afterFailure is how many batches are sent in the general form after a compact one has failed: the
// names are contended then, or keys were deleted by others.
const afterFailure = 16

// mayBeCompact reports whether the next batch is sent in compact form.
func (w *Writer) mayBeCompact() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.general > 0 {
		w.general--
		return false
	}
	return true
}

func (w *Writer) compactFailed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.general = afterFailure
}
