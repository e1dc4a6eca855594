package queue

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Most locks are free when they are wanted, and were so the last time. Who has just found nobody
// guesses that nobody is there: then his transaction need not read, nor say what to do in
// any other case, which saves a fiftieth of a lock and unlock. A guess that was wrong is one
// request more before the place in the line is taken; but who enters then does so when the watch on
// those who are there has been opened already, and spares the read with which a wait else begins.

// EnterOnce is one request of Enter, for who waits alone and has no view; ctx is to be bounded.
// After an error the key may have been written, or may be yet. Without either an entry or an
// error, it has not, and takes more than one request: Enter.
func (q *Queue) EnterOnce(ctx context.Context, w Want) (*Entry, error) {
	q.renew()
	q.surprised = false
	if !q.wasEmpty() || q.writer.Busy() { // a batch makes guesses of its own, see etcdkv.Compact
		e, _, err := q.enter(ctx, &w)
		return e, err
	}
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, Compact: q.ifNobody(&w)})
	switch {
	case err != nil:
		return nil, err
	case !resp.Succeeded:
		q.size.Store(1)
		q.emptied, q.surprised = time.Time{}, true
		return nil, nil
	}
	return q.foundNobody(w, resp.Header.Revision), nil
}

// TryEnterOnce is for TryEnter what EnterOnce is for Enter.
func (q *Queue) TryEnterOnce(ctx context.Context, w Want) (*Entry, error) {
	q.renew()
	resp, err := q.tryEnter(ctx, w, q.nobody())
	switch {
	case err != nil:
		return nil, err
	case resp.Succeeded:
		return q.foundNobody(w, resp.Header.Revision), nil
	case len(resp.Responses[0].GetResponseRange().Kvs) > 0: // our own key
		return nil, nil
	default:
		return nil, q.taken(w, resp)
	}
}

// foundNobody makes the entry of who was the first by the transaction that entered.
func (q *Queue) foundNobody(w Want, rev int64) *Entry {
	e := newEntry(q.key(w), w, rev)
	e.first = true
	q.size.Store(0)
	q.emptied = time.Now()
	q.rebase(nil, e, w.Value)
	return e
}

// wasEmpty tells whether the queue was found empty a moment ago.
func (q *Queue) wasEmpty() bool { return time.Since(q.emptied) < Resting }

// aheadTimeout bounds what the place in the line waits for a watch, which may hang.
const aheadTimeout = 100 * time.Millisecond

// openAhead opens a view before its entry is written; the transaction that enters reads what
// it is to show.
func (q *Queue) openAhead(ctx context.Context, w Want) {
	if q.cache != nil || w.Rule != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, aheadTimeout)
	defer cancel()
	c := q.newCache(q.from, q.end, !w.Candidate && !w.Keeps, waiting)
	if c.watch = c.open(ctx, 0); c.watch == nil {
		c.close()
		return
	}
	q.closeTheirs()
	c.early, q.cache = true, c
}
