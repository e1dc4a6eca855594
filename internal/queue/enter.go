package queue

import (
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// Enter puts our key into the queue. It blocks until etcd has answered or ctx ends. After an error the
// key may have been written, or may be written later, if unsure is true (see Sweep). An entry that is
// returned with an error has been written.
func (q *Queue) Enter(ctx context.Context, w Want) (e *Entry, unsure bool, err error) {
	q.renew()
	switch mispredicted := q.wasMispredicted(); {
	case w.Slot.Marked() && !q.barred:
		q.openInbox(ctx, w.Lease)
	case mispredicted:
		q.openAhead(ctx, w)
	}
	adopted := false
	unsure, err = q.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		for {
			entered, own, err := q.enter(ctx, &w)
			if err != nil || entered != nil {
				e = entered
				return err
			}
			if len(own) > 0 {
				adopted = true
				e, err = q.adopt(ctx, q.key(w), w, own)
				return err
			}
		}
	})
	q.closeEarly()
	if err == nil && adopted {
		q.closeStale()
		err = q.RewriteFor(ctx, e, w) // its place is looked at afterwards
	}
	return e, unsure, err
}

// enter is one transaction. It returns an entry, or our own key if that existed before. It returns
// neither if the key beside the queue has changed.
func (q *Queue) enter(ctx context.Context, w *Want) (e *Entry, own []*mvccpb.KeyValue, err error) {
	if w.Slot.Marked() {
		return q.enterMarked(ctx, w)
	}
	key, side := q.key(*w), w.Rule.beside()
	put := clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{
		Name:    q.name,
		If:      append(side.asKnown(), created(key, 0)),
		Then:    append(q.peeked(w.Rule), put),
		Else:    append([]clientv3.Op{clientv3.OpGet(key)}, side.read()...),
		Compact: q.alone(w),
	})
	switch {
	case err != nil:
		return nil, nil, err
	case resp.Succeeded:
		e = newEntry(key, *w, resp.Header.Revision)
		return e, nil, q.peek(e, resp.Responses[0].GetResponseRange(), w.Value)
	}
	w.heed(resp)
	return nil, resp.Responses[0].GetResponseRange().Kvs, nil
}

// foundEmpty makes the entry of a transaction that entered an empty queue.
func (q *Queue) foundEmpty(w Want, rev int64) *Entry {
	e := newEntry(q.key(w), w, rev)
	e.first = true
	q.foundOthers(0)
	q.rebase(nil, e, w.Value)
	return e
}

// foundOthers notes the number of entries before ours. It closes the watches of waits if the queue is calm.
func (q *Queue) foundOthers(n int64) {
	q.found(n)
	if q.isCalm() {
		q.closeTheirs()
		q.closeCache()
	}
}

// alone returns the compact form of enter. It is nil if the queue may have entries, or if no batch is
// expected.
func (q *Queue) alone(w *Want) *etcdkv.Compact {
	if w.Rule != nil || q.size.Load() > 0 || !q.writer.Busy() {
		return nil
	}
	c := q.ifEmpty(w)
	c.Unread = 1
	return c
}

// ifEmpty returns a write that enters an empty queue.
func (q *Queue) ifEmpty(w *Want) *etcdkv.Compact {
	return &etcdkv.Compact{From: q.from, End: q.end, Key: q.key(*w), Value: w.Value, Lease: w.Lease}
}

// peek takes in what the entering transaction has read; older is nil if it has read nothing.
func (q *Queue) peek(e *Entry, older *pb.RangeResponse, value string) error {
	if older == nil {
		q.closeStale()
		return nil
	}
	q.foundOthers(older.Count)
	if older.More {
		e.sees(seen{count: older.Count})
		q.closeStale()
		return nil
	}
	kvs := entriesOf(q.from, older.Kvs)
	q.rebase(kvs, e, value)
	var own *mvccpb.KeyValue
	if e.rule != nil {
		own = e.kv(value)
	}
	ahead, err := e.blocker(own, kvs)
	e.sees(seen{ahead: ahead, older: len(kvs), count: int64(len(kvs))})
	e.first = ahead == nil && err == nil
	return err
}

// peeked returns what the entering transaction reads.
func (q *Queue) peeked(rule *Rule) []clientv3.Op {
	if rule != nil || q.needsValues() { // both need the values
		return []clientv3.Op{clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(q.prefetch))}
	}
	limit := q.peeking(q.prefetch)
	if limit == 0 {
		return nil
	}
	return append(make([]clientv3.Op, 0, 2), q.remembers().reading(&q.line, limit))
}

// adopt adopts our own key if Becomes allows it. It deletes any other key, and returns errAgain, after
// which another try enters.
func (q *Queue) adopt(ctx context.Context, key string, w Want, own []*mvccpb.KeyValue) (*Entry, error) {
	e := adopt(key, w, own)
	if Becomes(own[0].Value, w.Value) {
		return e, nil
	}
	if _, err := q.LeaveOnce(ctx, e); err != nil {
		return nil, err
	}
	return nil, errAgain
}

// TryEnter puts our key into the queue only if it is admitted at once. The transaction that writes the
// key also checks this (trap A13: if callers entered and left again, two of them could refuse each
// other). Otherwise the error is ErrTaken, and nothing was written. For the other results see Enter.
//
// A rule that admits an entry beside others takes a second transaction if there are others. It writes
// only if no key of the queue was written since the first one. If keys are written again and again, the
// entry is written without this condition after some tries. Then Granted reports whether it is admitted,
// and if not, the caller leaves.
func (q *Queue) TryEnter(ctx context.Context, w Want) (e *Entry, unsure bool, err error) {
	q.renew()
	adopted := false
	unsure, err = q.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		still := q.empty()
		for n := 1; ; n++ {
			if n > tries {
				still = created(q.key(w), 0)
			}
			resp, err := q.tryEnter(ctx, w, still, n > 1)
			if err != nil {
				return err
			}
			if resp.Succeeded {
				if n == 1 {
					e = q.foundEmpty(w, resp.Header.Revision)
					return nil
				}
				e = newEntry(q.key(w), w, resp.Header.Revision)
				e.first = n <= tries // the others were read
				q.closeStale()
				return nil
			}
			w.heed(resp)
			if err := q.never(w); err != nil { // by what is known now
				return err
			}
			if own := resp.Responses[0].GetResponseRange().Kvs; len(own) > 0 {
				adopted = true
				e, err = q.adopt(ctx, q.key(w), w, own)
				return err
			}
			others, all := q.others(resp)
			switch {
			case w.Rule == nil && len(others) > 0:
				return q.refusedBy(nil, nil, others, all)
			case !all:
				continue // to read all of them
			}
			next := newEntry(q.key(w), w, resp.Header.Revision+1) // younger than all
			blocker, err := next.blocker(next.kv(w.Value), others)
			if err != nil {
				return err
			}
			if blocker != nil {
				return q.refusedBy(next.rule, blocker, others, true)
			}
			still = clientv3.Compare(clientv3.ModRevision(q.from).WithRange(q.end), "<", resp.Header.Revision+1)
		}
	})
	if err == nil && adopted {
		q.closeStale()
		err = q.RewriteFor(ctx, e, w)
	}
	return e, unsure, err
}

// never returns the reason why an entry with this value is never admitted, or nil.
func (q *Queue) never(w Want) error {
	if w.Rule == nil {
		return nil
	}
	next := newEntry(q.key(w), w, math.MaxInt64)
	_, err := next.blocker(next.kv(w.Value), nil)
	return err
}

// tryEnter is one transaction, which writes our key if a comparison holds. If it does not, it reads our key
// and the others: a few of them for an exclusive entry, unless all are to be read.
func (q *Queue) tryEnter(ctx context.Context, w Want, still clientv3.Cmp, all bool) (*clientv3.TxnResponse, error) {
	key, side := q.key(w), w.Rule.beside()
	return q.writer.Commit(ctx, etcdkv.Txn{
		Name: q.name,
		If:   append(side.asKnown(), still),
		Then: []clientv3.Op{clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
		Else: append([]clientv3.Op{clientv3.OpGet(key), clientv3.OpGet(q.from, q.tried(all || w.Rule != nil)...)}, side.read()...),
	})
}

// others returns the other entries that a refused TryEnter has read. all is true if there are no more.
func (q *Queue) others(resp *clientv3.TxnResponse) (entries []*mvccpb.KeyValue, all bool) {
	read := resp.Responses[1].GetResponseRange()
	q.found(read.Count)
	return entriesOf(q.from, read.Kvs), !read.More
}

// tries is the number of transactions after which TryEnter writes without its condition.
const tries = 8

// tried returns what TryEnter reads of the other entries.
func (q *Queue) tried(all bool) []clientv3.OpOption {
	if all {
		return []clientv3.OpOption{clientv3.WithRange(q.end)}
	}
	return []clientv3.OpOption{clientv3.WithRange(q.end), clientv3.WithLimit(fewTried)}
}

// fewTried is the length of a queue up to which a refused TryEnter knows the holder. In a longer one it
// would have to read or sort all entries (trap A16).
const fewTried = 8

// Granted reads whether the entry is admitted, and returns the revision of this reading.
func (q *Queue) Granted(ctx context.Context, e *Entry) (granted bool, rev int64, err error) {
	if e.first {
		return true, e.CreateRevision, nil
	}
	next, err := q.look(ctx, e, &q.length)
	if next.KeyValue != nil {
		e.waitsFor(Obstacle{KV: next.KeyValue, Whole: e.rule != nil})
	}
	return err == nil && next.KeyValue == nil, next.at, err
}
