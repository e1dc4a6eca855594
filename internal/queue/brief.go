package queue

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// brief is a write as it mostly ends: with one comparison and one operation. In a batch
// it takes half of the work of a transaction within the transaction, for etcd and for its
// client. But all the comparisons of a batch then hold or fail together: where they fail
// nothing was done, and the batch is sent again with all its writes at length.
type brief struct {
	// If the key from, or with an end each one of that range, has this CreateRevision; 0 if
	// there is none,
	from, end string
	created   int64
	// then this key is put, with a value and a lease, or deleted.
	key     string
	value   string
	lease   clientv3.LeaseID
	deletes bool
	// unread is how many readings the transaction at length makes before that, all of which
	// find nothing if the comparison holds.
	unread int
}

func (b *brief) cmp() clientv3.Cmp { return allCreated(b.from, b.end, b.created) }

func (b *brief) op() clientv3.Op {
	if b.deletes {
		return clientv3.OpDelete(b.key)
	}
	return clientv3.OpPut(b.key, b.value, clientv3.WithLease(b.lease))
}

// request is op as it is sent.
func (b *brief) request() *pb.RequestOp {
	if b.deletes {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(b.key)}}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
		Key: []byte(b.key), Value: []byte(b.value), Lease: int64(b.lease),
	}}}
}

// commit sends writes that are brief in one transaction.
func (w *Writer) commit(ctx context.Context, all ...*brief) (*clientv3.TxnResponse, error) {
	if w.Direct == nil {
		cmps, ops := make([]clientv3.Cmp, len(all)), make([]clientv3.Op, len(all))
		for i, b := range all {
			cmps[i], ops[i] = b.cmp(), b.op()
		}
		return w.kv.Txn(ctx).If(cmps...).Then(ops...).Commit()
	}
	req := &pb.TxnRequest{Compare: make([]*pb.Compare, len(all)), Success: make([]*pb.RequestOp, len(all))}
	for i, b := range all {
		cmp := b.cmp()
		req.Compare[i], req.Success[i] = cmp.GetCompare(), b.request()
	}
	resp, err := w.Direct(ctx, req)
	if err != nil {
		return nil, clientv3.ContextError(ctx, err)
	}
	return (*clientv3.TxnResponse)(resp), nil
}

// afterFailure is for how many batches no write is brief after one that failed: names are then
// contended, or keys deleted by somebody else.
const afterFailure = 16

var readNothing = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}}

// outcome is the response of the transaction at length.
func (b *brief) outcome(header *pb.ResponseHeader, done *pb.ResponseOp) *clientv3.TxnResponse {
	all := make([]*pb.ResponseOp, 0, b.unread+1)
	for range b.unread {
		all = append(all, readNothing)
	}
	return (*clientv3.TxnResponse)(&pb.TxnResponse{Header: header, Succeeded: true, Responses: append(all, done)})
}

// outcomeOf is the response of a write at length that was a part of a transaction.
func outcomeOf(header *pb.ResponseHeader, done *pb.ResponseOp) *clientv3.TxnResponse {
	part := done.GetResponseTxn()
	return (*clientv3.TxnResponse)(&pb.TxnResponse{Header: header, Succeeded: part.Succeeded, Responses: part.Responses})
}

// sendBatch sends the writes of a batch in one transaction, and returns their responses.
func (w *Writer) sendBatch(ctx context.Context, batch []*write) ([]*clientv3.TxnResponse, error) {
	if w.mayBeBrief() {
		all, err := w.sendBriefly(ctx, batch)
		if all != nil || err != nil {
			return all, err
		}
		w.failedBriefly()
	}
	parts := make([]clientv3.Op, len(batch))
	for i, wr := range batch {
		parts[i] = wr.atLength()
	}
	resp, err := w.kv.Txn(ctx).Then(parts...).Commit()
	if err != nil {
		return nil, err
	}
	all := make([]*clientv3.TxnResponse, len(batch))
	for i, done := range resp.Responses {
		all[i] = outcomeOf(resp.Header, done)
	}
	return all, nil
}

// sendBriefly sends a batch in which each write that can be is brief; nil without an error when
// the comparisons failed, and nothing was done.
func (w *Writer) sendBriefly(ctx context.Context, batch []*write) ([]*clientv3.TxnResponse, error) {
	resp, err := w.commitBriefly(ctx, batch)
	if err != nil || !resp.Succeeded {
		return nil, err
	}
	all := make([]*clientv3.TxnResponse, len(batch))
	for i, done := range resp.Responses {
		if brief := batch[i].brief; brief != nil {
			all[i] = brief.outcome(resp.Header, done)
		} else {
			all[i] = outcomeOf(resp.Header, done)
		}
	}
	return all, nil
}

func (w *Writer) commitBriefly(ctx context.Context, batch []*write) (*clientv3.TxnResponse, error) {
	briefs := make([]*brief, 0, len(batch))
	for _, wr := range batch {
		if wr.brief != nil {
			briefs = append(briefs, wr.brief)
		}
	}
	if len(briefs) == len(batch) {
		return w.commit(ctx, briefs...)
	}
	cmps, ops := make([]clientv3.Cmp, len(briefs)), make([]clientv3.Op, len(batch))
	for i, b := range briefs {
		cmps[i] = b.cmp()
	}
	for i, wr := range batch {
		if wr.brief != nil {
			ops[i] = wr.brief.op()
		} else {
			ops[i] = wr.atLength()
		}
	}
	return w.kv.Txn(ctx).If(cmps...).Then(ops...).Commit()
}

func (wr *write) onlyBrief() bool { return wr.brief != nil && wr.then == nil }

func (wr *write) atLength() clientv3.Op {
	if wr.onlyBrief() {
		return clientv3.OpTxn([]clientv3.Cmp{wr.brief.cmp()}, []clientv3.Op{wr.brief.op()}, nil)
	}
	return clientv3.OpTxn(wr.cmps, wr.then, wr.othw)
}

// mayBeBrief tells whether the next batch may.
func (w *Writer) mayBeBrief() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lengthy > 0 {
		w.lengthy--
		return false
	}
	return true
}

// busy tells whether a write that comes now has to wait for others.
func (w *Writer) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flying >= w.lanes
}

func (w *Writer) failedBriefly() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lengthy = afterFailure
}
