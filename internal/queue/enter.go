package queue

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// peek is the number of older entries that the entering transaction reads of a queue of unknown
// length. It is small because the read is part of a write, which costs every user of the cluster. The
// entries are read in the order of their keys, because sorting by revision would read the whole queue
// (trap A16). If all older entries are among them, the first look is saved.
//
// If the queue was longer than that the last time, more entries are read, up to mostPeeked. etcd has
// their keys in memory. Of a longer queue nothing is read, because etcd would count all of it.
const (
	peek       = 33
	mostPeeked = 8 * peek
)

// peeking returns the number of entries to read of a queue of this size.
func peeking(peek, size int64) int64 {
	limit := peek
	for limit <= size {
		limit *= 2
	}
	if limit > mostPeeked {
		return 0
	}
	return limit
}

// Enter puts our key into the queue. It blocks until etcd has answered or ctx ends. After an error the
// key may have been written, or may be written later, if unsure is true (see Sweep). An entry that is
// returned with an error has been written.
func (q *Queue) Enter(ctx context.Context, w Want) (e *Entry, unsure bool, err error) {
	q.renew()
	if q.mispredicted {
		q.mispredicted = false
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
	if q.cache != nil && q.cache.early {
		q.closeCache()
	}
	if err == nil && adopted {
		q.closeStale()
		err = q.RewriteFor(ctx, e, w) // its place is looked at afterwards
	}
	return e, unsure, err
}

// enter is one transaction. It returns an entry, or our own key if that existed before. It returns
// neither if the key beside the queue has changed.
func (q *Queue) enter(ctx context.Context, w *Want) (e *Entry, own []*mvccpb.KeyValue, err error) {
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
func (q *Queue) peek(e *Entry, older *pb.RangeResponse, value string) (err error) {
	if older == nil {
		q.closeStale()
		return nil
	}
	q.size.Store(older.Count)
	e.count = older.Count
	q.emptied = time.Time{}
	if older.Count == 0 {
		q.emptied = time.Now()
	}
	if older.More {
		q.closeStale()
		return nil
	}
	q.rebase(older.Kvs, e, value)
	e.older = len(older.Kvs)
	var own *mvccpb.KeyValue
	if e.rule != nil {
		own = e.kv(value)
	}
	e.ahead, err = e.blocker(own, older.Kvs)
	e.first = e.ahead == nil && err == nil
	return err
}

// peeked returns what the entering transaction reads.
func (q *Queue) peeked(rule *Rule) []clientv3.Op {
	if rule != nil || q.cache != nil && q.cache.early && !q.cache.deletesOnly { // both need the values
		return []clientv3.Op{clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(q.prefetch))}
	}
	limit := peeking(q.prefetch, q.size.Load())
	if limit == 0 {
		return nil
	}
	m := q.remembers()
	if m.limit != limit {
		m.limit, m.peek = limit, clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(limit), clientv3.WithKeysOnly())
	}
	return append(make([]clientv3.Op, 0, 2), m.peek)
}

// key returns our key. It is mostly the same as in the last call.
func (q *Queue) key(w Want) string {
	m := q.remembers()
	if m.of.Lease != w.Lease || m.of.Slot != w.Slot {
		m.of, m.key = Want{Lease: w.Lease, Slot: w.Slot}, wire.SlotKey(q.name, w.Lease, w.Slot)
	}
	return m.key
}

func (q *Queue) remembers() *memo {
	if q.memo == nil {
		q.memo = &memo{}
	}
	return q.memo
}

// kv returns the entry's key as it was written with this value.
func (e *Entry) kv(value string) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(e.Key), Value: []byte(value), Lease: int64(e.Lease),
		CreateRevision: e.CreateRevision, ModRevision: e.modRevision.Load(),
	}
}

// adopt makes an entry of our own key that exists already, by an earlier try without an answer or by a
// lease that was taken over. Its place in the queue is ours. The key is rewritten afterwards, for
// its value. The revision of this write also gives a hold that was taken over a larger token.
func adopt(key string, w Want, kvs []*mvccpb.KeyValue) *Entry {
	e := newEntry(key, w, kvs[0].CreateRevision)
	e.adopted = true
	e.wrote(kvs[0].ModRevision)
	e.touched.Store(kvs[0].ModRevision > kvs[0].CreateRevision)
	return e
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

// errAgain counts as no answer, so that retry tries again.
var errAgain = status.Error(codes.Aborted, "a key of another kind was in the way")

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
			resp, err := q.tryEnter(ctx, w, still)
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
			if w.Rule == nil {
				return q.taken(w, resp)
			}
			q.size.Store(resp.Responses[1].GetResponseRange().Count)
			q.emptied = time.Time{}
			next := newEntry(q.key(w), w, resp.Header.Revision+1) // younger than all
			blocker, err := next.blocker(next.kv(w.Value), resp.Responses[1].GetResponseRange().Kvs)
			if err != nil {
				return err
			}
			if blocker != nil {
				return q.refusedBy(next, blocker, resp.Responses[1].GetResponseRange().Kvs, true)
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

// tryEnter is one transaction, which writes our key if a comparison holds.
func (q *Queue) tryEnter(ctx context.Context, w Want, still clientv3.Cmp) (*clientv3.TxnResponse, error) {
	key, side := q.key(w), w.Rule.beside()
	return q.writer.Commit(ctx, etcdkv.Txn{
		Name: q.name,
		If:   append(side.asKnown(), still),
		Then: []clientv3.Op{clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
		Else: append([]clientv3.Op{clientv3.OpGet(key), clientv3.OpGet(q.from, q.tried(w.Rule)...)}, side.read()...),
	})
}

// taken returns the error of a TryEnter of an exclusive entry that has found others.
func (q *Queue) taken(w Want, resp *clientv3.TxnResponse) error {
	others := resp.Responses[1].GetResponseRange()
	q.size.Store(others.Count)
	q.emptied = time.Time{}
	return q.refusedBy(&Entry{rule: w.Rule}, nil, others.Kvs, !others.More)
}

// tries is the number of transactions after which TryEnter writes without its condition.
const tries = 8

// tried returns what TryEnter reads of the other entries.
func (q *Queue) tried(rule *Rule) []clientv3.OpOption {
	if rule != nil {
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
	next, err := q.look(ctx, e)
	if next.KeyValue != nil {
		e.waitsFor(Obstacle{KV: next.KeyValue, Whole: e.rule != nil})
	}
	return err == nil && next.KeyValue == nil, next.at, err
}
