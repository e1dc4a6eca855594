package queue

import (
	"context"
	"encoding/json"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Among candidates, one may be preferred to those who are ahead of it: for its priority, or
// because a leader has handed over to it. Then those ahead step behind it, each when it would
// be its turn. Nobody passes an older entry for that, so it decides only about who is
// next, never about whether two lead: those who know nothing of it lead when it is their
// turn, and the preferred one after them.

// ErrNoTarget: the candidate to hand over to is not there any more.
var ErrNoTarget = errors.New("the candidate is not there any more")

// mark is the value of the key that marks the next one. It tells only the end of that one's
// key, as clients with different namespaces see different beginnings.
type mark struct {
	Key            string `json:"next"` // whole once it is read
	CreateRevision int64  `json:"rev"`
}

func newMark(of *mvccpb.KeyValue) string {
	value, _ := json.Marshal(mark{wire.Tail(string(of.Key)), of.CreateRevision}) // never fails
	return string(value)
}

func readMark(kv *mvccpb.KeyValue) (m mark, ok bool) {
	key := string(kv.Key)
	ok = wire.IsMark(key) && json.Unmarshal(kv.Value, &m) == nil && m.Key != ""
	m.Key = wire.WithTail(key, m.Key)
	return m, ok
}

// isOf tells whether a mark is that of an entry; nil is none.
func (m mark) isOf(kv *mvccpb.KeyValue) bool {
	return kv != nil && string(kv.Key) == m.Key && kv.CreateRevision == m.CreateRevision
}

// IsMark tells whether an entry is the mark of another one, and no contender itself.
func IsMark(kv *mvccpb.KeyValue) bool {
	_, ok := readMark(kv)
	return ok
}

// MayLead tells whether a candidate whose turn it is shall take it: false if another one
// is preferred.
func (q *Queue) MayLead(ctx context.Context, e *Entry) (bool, error) {
	if e.first {
		return true, nil // nobody else was there
	}
	if q.view != nil && q.view.serves(e) {
		return !preferred(q.view.entries, e), nil
	}
	m, err := q.read(ctx)
	if err != nil {
		return false, err
	}
	return !preferred(m.entries, e), nil
}

// preferred tells whether anybody else in a queue is preferred to e: who has the oldest mark,
// or, without marks, anybody of a higher priority.
func preferred(entries map[string]*mvccpb.KeyValue, e *Entry) bool {
	var next *mvccpb.KeyValue // the oldest mark of somebody who is there
	higher := false
	for _, kv := range entries {
		if m, ok := readMark(kv); ok {
			if m.isOf(entries[m.Key]) && (next == nil || kv.CreateRevision < next.CreateRevision) {
				next = kv
			}
			continue
		}
		higher = higher || wire.Priority(string(kv.Key)) > wire.Priority(e.Key)
	}
	if next != nil {
		m, _ := readMark(next)
		return m.Key != e.Key
	}
	return higher
}

// StepBehind gives up the place of an entry for one behind all others, in one transaction, by
// a key in another slot. For unsure see Enter.
func (q *Queue) StepBehind(ctx context.Context, e *Entry, w Want) (moved *Entry, unsure bool, err error) {
	key := wire.SlotKey(q.name, w.Lease, w.Slot)
	tried := false
	unsure, err = q.writer.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Txn(ctx, q.name, []clientv3.Cmp{e.Guard(), created(key, 0)},
			append(q.deletes(e), clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))),
			[]clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(key)})
		if err != nil {
			tried = true
			return err
		}
		if resp.Succeeded {
			moved = newEntry(key, w, resp.Header.Revision)
			return nil
		}
		old, there := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
		switch {
		case e.standsIn(old): // and something was left in that slot
			if _, err := q.delete(ctx, adopt(key, w, there)); err != nil {
				return err
			}
			return errAgain
		case !tried || len(there) == 0:
			return ErrGone
		}
		moved = adopt(key, w, there) // by an earlier try of ours, whose answer was lost
		return nil
	})
	return moved, unsure, err
}

// HandTo deletes our key and marks a candidate as the next, in one transaction. ErrNoTarget
// when the candidate is not there, and ErrGone when our key is not; then nothing was done.
//
// A mark is always younger than whom it marks: so nobody waits for it who is not behind that
// one already.
func (q *Queue) HandTo(ctx context.Context, e *Entry, to *mvccpb.KeyValue) error {
	key, value := wire.MarkKey(q.name, clientv3.LeaseID(to.Lease)), newMark(to)
	then := []clientv3.Op{clientv3.OpDelete(e.Key), clientv3.OpPut(key, value, clientv3.WithLease(clientv3.LeaseID(to.Lease)))}
	if own := wire.MarkKey(q.name, e.Lease); own != key {
		then = append(then, clientv3.OpDelete(own))
	}
	tried := false
	_, err := q.writer.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Txn(ctx, q.name,
			[]clientv3.Cmp{
				e.Guard(), created(key, 0),
				created(string(to.Key), to.CreateRevision),
			},
			then,
			[]clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(string(to.Key)), clientv3.OpGet(key)})
		if err != nil || resp.Succeeded {
			tried = true
			return err
		}
		read := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().Kvs }
		own, target, marked := read(0), read(1), read(2)
		switch {
		case !e.standsIn(own) && tried && (!there(target, to) || marks(marked, to)):
			return nil // by an earlier try of ours, whose answer was lost: it waits or leads by the mark, or has gone
		case !e.standsIn(own):
			return ErrGone
		case !there(target, to):
			return ErrNoTarget
		case len(marked) == 0: // it went in this instant
		default: // of an earlier candidate of that lease, or our own
			_, err = q.writer.Txn(ctx, q.name, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", marked[0].ModRevision)},
				[]clientv3.Op{clientv3.OpDelete(key)}, nil)
		}
		if err != nil {
			return err
		}
		return errAgain
	})
	return err
}

// there tells whether a reading of a key shows an entry.
func there(read []*mvccpb.KeyValue, of *mvccpb.KeyValue) bool {
	return len(read) > 0 && same(read[0], of)
}

// marks tells whether a reading of a mark's key shows that of an entry.
func marks(read []*mvccpb.KeyValue, of *mvccpb.KeyValue) bool {
	if len(read) == 0 {
		return false
	}
	m, ok := readMark(read[0])
	return ok && m.isOf(of)
}

// mayBeMarked is false for one that found nobody when it came, as only who leads marks, and one
// who waits.
func (e *Entry) mayBeMarked() bool { return e.candidate && !e.first }

// deletes are the operations that take an entry away, and the mark that it may have.
func (q *Queue) deletes(e *Entry) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpDelete(e.Key)}
	if e.mayBeMarked() {
		ops = append(ops, clientv3.OpDelete(wire.MarkKey(q.name, e.Lease)))
	}
	return ops
}

// clearMark deletes a mark if the candidate that it marks is not there: one of another
// library, or one that could not take it along.
func (q *Queue) clearMark(ctx context.Context, kv *mvccpb.KeyValue) error {
	m, ok := readMark(kv)
	if !ok {
		return nil
	}
	_, err := q.writer.retry(ctx, kv.Lease, func(ctx context.Context) error {
		_, err := q.writer.Txn(ctx, q.name, []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision),
			clientv3.Compare(clientv3.CreateRevision(m.Key), "!=", m.CreateRevision),
		}, []clientv3.Op{clientv3.OpDelete(string(kv.Key))}, nil)
		return err
	})
	return err
}

// pastMark is who has to go before a mark does: the one that it marks. nil when that one has
// gone, and the mark with it.
func (q *Queue) pastMark(ctx context.Context, kv *mvccpb.KeyValue) (of *mvccpb.KeyValue, err error) {
	if kv, err = q.whole(ctx, kv); kv == nil || err != nil {
		return nil, err
	}
	m, _ := readMark(kv)
	_, err = q.writer.retry(ctx, kv.Lease, func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, m.Key)
		if err == nil && len(resp.Kvs) > 0 && m.isOf(resp.Kvs[0]) {
			of = resp.Kvs[0]
		}
		return err
	})
	if err != nil || of != nil {
		return of, err
	}
	return nil, q.clearMark(ctx, kv)
}

// whole reads an entry of which only the key was read; nil if it has gone, or changed.
func (q *Queue) whole(ctx context.Context, kv *mvccpb.KeyValue) (whole *mvccpb.KeyValue, err error) {
	_, err = q.writer.retry(ctx, kv.Lease, func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, string(kv.Key))
		if err == nil && len(resp.Kvs) > 0 && same(resp.Kvs[0], kv) {
			whole = resp.Kvs[0]
		}
		return err
	})
	return whole, err
}
