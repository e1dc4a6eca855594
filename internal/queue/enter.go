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

// peek is how many of the older entries the entering transaction reads, of a queue that
// nothing is known of. Few, as the read is part of a write and costs every user of the
// cluster; and in key order, as sorting by revision would read the whole queue (trap A16).
// When all older ones are among them the first look can be saved.
//
// Of a queue that was longer than that the last time, more is read, for that reason; up to
// mostPeeked, which etcd has in memory. Of a longer one nothing is: even of a few keys etcd
// would count all.
const (
	peek       = 33
	mostPeeked = 8 * peek
)

// peeking is how many entries to read, peek as a rule, when the queue had that many.
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

// Enter puts our key into the queue. It returns when etcd answered or ctx ended;
// in the second case, and after any error, the key may have been written all the
// same; then unsure says so, and that a request might even be applied yet (see
// Sweep). An entry that comes with an error has been written.
func (q *Queue) Enter(ctx context.Context, w Want) (e *Entry, unsure bool, err error) {
	q.renew()
	if q.surprised {
		q.surprised = false
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

// enter is one transaction. It makes an entry, or finds our own key, or that what is said
// beside the queue is not known yet.
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

// alone is the compact form of enter. It is nil if the queue may have entries, and if no batch is
// expected.
func (q *Queue) alone(w *Want) *etcdkv.Compact {
	if w.Rule != nil || q.size.Load() > 0 || !q.writer.Busy() {
		return nil
	}
	c := q.ifNobody(w)
	c.Unread = 1
	return c
}

// ifNobody enters an empty queue.
func (q *Queue) ifNobody(w *Want) *etcdkv.Compact {
	return &etcdkv.Compact{From: q.from, End: q.end, Key: q.key(*w), Value: w.Value, Lease: w.Lease}
}

// peek takes note of what the entering transaction has read, if it has.
func (q *Queue) peek(e *Entry, older *pb.RangeResponse, value string) (err error) {
	if older == nil {
		q.closeStale()
		return nil
	}
	q.size.Store(older.Count)
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

// peeked is what the entering transaction reads.
func (q *Queue) peeked(rule *Rule) []clientv3.Op {
	if rule != nil { // which cannot do without the values
		return []clientv3.Op{clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(q.prefetch))}
	}
	if q.cache != nil && q.cache.early && !q.cache.deletesOnly { // which is to show them
		return []clientv3.Op{clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(q.prefetch))}
	}
	limit := peeking(q.prefetch, q.size.Load())
	if limit == 0 {
		return nil
	}
	if q.peeks.limit != limit {
		q.peeks.limit, q.peeks.op = limit, clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(limit), clientv3.WithKeysOnly())
	}
	return append(make([]clientv3.Op, 0, 2), q.peeks.op)
}

// key is the key that is wanted; that of the last call is the same, as a rule.
func (q *Queue) key(w Want) string {
	if q.last.of.Lease != w.Lease || q.last.of.Slot != w.Slot {
		q.last.of, q.last.key = Want{Lease: w.Lease, Slot: w.Slot}, wire.SlotKey(q.name, w.Lease, w.Slot)
	}
	return q.last.key
}

// kv is the entry's key as it stood when it was written.
func (e *Entry) kv(value string) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(e.Key), Value: []byte(value), Lease: int64(e.Lease),
		CreateRevision: e.CreateRevision, ModRevision: e.modRevision.Load(),
	}
}

// adopt makes an entry of a key of ours that is there already: an earlier try of
// ours whose answer was lost, or the key of a lease that was taken over. Its place
// in the line is ours. It is rewritten afterwards, for its value, and so that a
// hold taken over has a revision of its own, and so a token above its former one.
func adopt(key string, w Want, kvs []*mvccpb.KeyValue) *Entry {
	e := newEntry(key, w, kvs[0].CreateRevision)
	e.adopted = true
	e.wrote(kvs[0].ModRevision)
	e.touched.Store(kvs[0].ModRevision > kvs[0].CreateRevision)
	return e
}

// adopt is adopt where it may be done, see Becomes. Any other key is deleted, and errAgain says
// to enter anew.
func (q *Queue) adopt(ctx context.Context, key string, w Want, own []*mvccpb.KeyValue) (*Entry, error) {
	e := adopt(key, w, own)
	if Becomes(own[0].Value, w.Value) {
		return e, nil
	}
	if _, err := q.delete(ctx, e); err != nil {
		return nil, err
	}
	return nil, errAgain
}

// errAgain counts as no answer, so that it is tried again.
var errAgain = status.Error(codes.Aborted, "a key of another kind was in the way")

// TryEnter puts our key into the queue only if it may go in at once, in the one
// transaction that also finds out (trap A13: entering and leaving again would let
// two callers refuse each other); else ErrTaken, and nothing was written. For the
// other results see Enter.
//
// A rule that lets it go in beside others takes a second transaction when there are
// some: it writes only if nobody has come or changed since the first.
// Where somebody always has, it is written after a number of tries all the same, and only
// Granted tells whether it may go in; if not it has to leave.
func (q *Queue) TryEnter(ctx context.Context, w Want) (e *Entry, unsure bool, err error) {
	q.renew()
	adopted := false
	unsure, err = q.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		still := q.nobody()
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
					e = q.foundNobody(w, resp.Header.Revision)
					return nil
				}
				e = newEntry(q.key(w), w, resp.Header.Revision)
				e.first = n <= tries // beside others, who were read
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

// never tells why an entry with this value may not go in even where there is nobody else.
func (q *Queue) never(w Want) error {
	if w.Rule == nil {
		return nil
	}
	next := newEntry(q.key(w), w, math.MaxInt64)
	_, err := next.blocker(next.kv(w.Value), nil)
	return err
}

// tryEnter is one transaction, which writes if a comparison holds.
func (q *Queue) tryEnter(ctx context.Context, w Want, still clientv3.Cmp) (*clientv3.TxnResponse, error) {
	key, side := q.key(w), w.Rule.beside()
	return q.writer.Commit(ctx, etcdkv.Txn{
		Name: q.name,
		If:   append(side.asKnown(), still),
		Then: []clientv3.Op{clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
		Else: append([]clientv3.Op{clientv3.OpGet(key), clientv3.OpGet(q.from, q.tried(w.Rule)...)}, side.read()...),
	})
}

// taken is the error of a TryEnter of the plain rule that has found others.
func (q *Queue) taken(w Want, resp *clientv3.TxnResponse) error {
	others := resp.Responses[1].GetResponseRange()
	q.size.Store(others.Count)
	q.emptied = time.Time{}
	return q.refusedBy(&Entry{rule: w.Rule}, nil, others.Kvs, !others.More)
}

// tries is how many transactions TryEnter makes at most before it writes all the same.
const tries = 8

// tried is what TryEnter reads of those who are there.
func (q *Queue) tried(rule *Rule) []clientv3.OpOption {
	if rule != nil {
		return []clientv3.OpOption{clientv3.WithRange(q.end)}
	}
	return []clientv3.OpOption{clientv3.WithRange(q.end), clientv3.WithLimit(fewTried)}
}

// fewTried is of how many entries a TryEnter that is refused knows the holder. Of more it would
// have to read, or to sort, all of them (trap A16).
const fewTried = 8

// Granted tells whether the entry may go in right now, by one read, and at which
// revision that was seen.
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
