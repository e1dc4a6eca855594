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

// mark is the value of the key that marks the next one.
type mark struct {
	Key            string `json:"next"`
	CreateRevision int64  `json:"rev"`
}

func readMark(kv *mvccpb.KeyValue) (m mark, ok bool) {
	ok = wire.IsMark(string(kv.Key)) && json.Unmarshal(kv.Value, &m) == nil && m.Key != ""
	return m, ok
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
	if q.view != nil {
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
			if of := entries[m.Key]; of != nil && of.CreateRevision == m.CreateRevision && (next == nil || kv.CreateRevision < next.CreateRevision) {
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
// a key in another slot.
func (q *Queue) StepBehind(ctx context.Context, e *Entry, w Want) (*Entry, error) {
	key := wire.SlotKey(q.name, w.Lease, w.Slot)
	var moved *Entry
	_, err := retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Txn(ctx, q.name, []clientv3.Cmp{e.Guard(), clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
			[]clientv3.Op{clientv3.OpDelete(e.Key), clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
			[]clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(key)})
		if err != nil {
			return err
		}
		if resp.Succeeded {
			moved = newEntry(key, w, resp.Header.Revision)
			return nil
		}
		// An earlier try of ours whose answer was lost, or what was left in that slot.
		old, there := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
		switch {
		case e.standsIn(old):
			if _, err := q.delete(ctx, adopt(key, w, there)); err != nil {
				return err
			}
			return errAgain
		case len(there) == 0:
			return ErrGone
		}
		moved = adopt(key, w, there)
		return nil
	})
	return moved, err
}

// HandTo deletes our key and marks a candidate as the next, in one transaction. ErrNoTarget
// when the candidate is not there, and ErrGone when our key is not; then nothing was done.
func (q *Queue) HandTo(ctx context.Context, e *Entry, to *mvccpb.KeyValue) error {
	key := wire.MarkKey(q.name, clientv3.LeaseID(to.Lease))
	value, err := json.Marshal(mark{string(to.Key), to.CreateRevision})
	if err != nil {
		return err
	}
	_, err = retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Txn(ctx, q.name,
			[]clientv3.Cmp{e.Guard(), clientv3.Compare(clientv3.CreateRevision(string(to.Key)), "=", to.CreateRevision)},
			append(q.deletes(e), clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(to.Lease)))),
			[]clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(key)})
		if err != nil || resp.Succeeded {
			return err
		}
		own, marked := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
		switch {
		case e.standsIn(own):
			return ErrNoTarget
		case len(marked) > 0 && string(marked[0].Value) == string(value):
			return nil // an earlier try of ours, whose answer was lost
		default:
			return ErrGone
		}
	})
	return err
}

// deletes are the operations that take an entry away, and the mark that it may have.
func (q *Queue) deletes(e *Entry) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpDelete(e.Key)}
	if e.candidate {
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
	_, err := retry(ctx, kv.Lease, func(ctx context.Context) error {
		_, err := q.writer.Txn(ctx, q.name, []clientv3.Cmp{
			clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision),
			clientv3.Compare(clientv3.CreateRevision(m.Key), "!=", m.CreateRevision),
		}, []clientv3.Op{clientv3.OpDelete(string(kv.Key))}, nil)
		return err
	})
	return err
}
