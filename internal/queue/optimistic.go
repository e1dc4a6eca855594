package queue

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Optimistic enter. If the queue was empty less than a second ago, the next acquisition assumes that it
// still is. Its transaction is one comparison and one put, without a read and without an else branch,
// which saves a fiftieth of a lock and unlock. A wrong assumption costs one request before our place in the
// queue is taken. Then Enter opens the watch on the queue before it enters, and the wait begins without
// a read. While that watch is kept, no entry of ours is optimistic. It is closed after a second without
// an entry, or when the queue was found empty calm times in a row.

// EnterOnce is one request of Enter, for a caller that waits alone and has no cache. The caller bounds
// ctx. After an error the key may have been written, or may be written later. If there is neither an
// entry nor an error, the key was not written, and Enter is needed. A marked entry needs Listens before.
func (q *Queue) EnterOnce(ctx context.Context, w Want) (*Entry, error) {
	q.renew()
	q.wasMispredicted()
	if w.Slot.Marked() || !q.recentlyEmpty() || q.writer.Busy() { // a batch assumes the same by itself, see etcdkv.Compact
		e, _, err := q.enter(ctx, &w)
		return e, err
	}
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, Compact: q.ifEmpty(&w)})
	switch {
	case err != nil:
		return nil, err
	case !resp.Succeeded:
		q.mispredict()
		return nil, nil
	}
	return q.foundEmpty(w, resp.Header.Revision), nil
}

// TryEnterOnce is for TryEnter what EnterOnce is for Enter.
func (q *Queue) TryEnterOnce(ctx context.Context, w Want) (*Entry, error) {
	q.renew()
	resp, err := q.tryEnter(ctx, w, q.empty(), false)
	switch {
	case err != nil:
		return nil, err
	case resp.Succeeded:
		return q.foundEmpty(w, resp.Header.Revision), nil
	case len(resp.Responses[0].GetResponseRange().Kvs) > 0: // our own key
		return nil, nil
	}
	others, all := q.others(resp)
	if len(others) == 0 {
		return nil, nil // only what lies beside other names
	}
	return nil, q.refusedBy(w.Rule, nil, others, all)
}
