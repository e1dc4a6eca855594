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
	cmp clientv3.Cmp
	op  clientv3.Op
	// unread is how many readings the transaction at length makes before op, all of which
	// find nothing if cmp holds.
	unread int
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
	cmps := make([]clientv3.Cmp, 0, len(batch))
	ops := make([]clientv3.Op, len(batch))
	for i, wr := range batch {
		if wr.brief == nil {
			ops[i] = wr.atLength()
			continue
		}
		cmps = append(cmps, wr.brief.cmp)
		ops[i] = wr.brief.op
	}
	resp, err := w.kv.Txn(ctx).If(cmps...).Then(ops...).Commit()
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

func (wr *write) atLength() clientv3.Op { return clientv3.OpTxn(wr.cmps, wr.then, wr.othw) }

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
