package queue

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
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
//
// It stands beside the queue, where no watch of the queue tells of it. So the transaction that
// writes it also writes the entry that it marks, as that was: who finds an entry that was
// written again looks for marks. One whose entry has gone counts for nothing.
type mark struct {
	Tail           string `json:"next"`
	CreateRevision int64  `json:"rev"`
}

func newMark(of *mvccpb.KeyValue) string {
	value, _ := json.Marshal(mark{wire.Tail(string(of.Key)), of.CreateRevision}) // never fails
	return string(value)
}

// marked is the entry that a mark names, if it is one of these; nil otherwise.
func (q *Queue) marked(entries map[string]*mvccpb.KeyValue, by *mvccpb.KeyValue) *mvccpb.KeyValue {
	var m mark
	if json.Unmarshal(by.Value, &m) != nil {
		return nil
	}
	of := entries[wire.WithTail(q.from, m.Tail)]
	if of == nil || of.CreateRevision != m.CreateRevision {
		return nil
	}
	return of
}

// next is the entry that the oldest mark names, of those whose entry is there; nil for none.
func (q *Queue) next(entries map[string]*mvccpb.KeyValue, marks []*mvccpb.KeyValue) *mvccpb.KeyValue {
	var next *mvccpb.KeyValue
	oldest := int64(math.MaxInt64)
	for _, by := range marks {
		if of := q.marked(entries, by); of != nil && by.ModRevision < oldest {
			next, oldest = of, by.ModRevision
		}
	}
	return next
}

// readMarks reads the marks beside the queue. A role that may not read them leads as if there
// were none.
func (q *Queue) readMarks(ctx context.Context) (marks []*mvccpb.KeyValue, err error) {
	from, end := wire.Marks(q.name)
	_, err = q.retry(ctx, 0, func(ctx context.Context) error {
		resp, err := q.kv.Get(ctx, from, clientv3.WithRange(end))
		if err == nil {
			marks = resp.Kvs
		}
		return err
	})
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return nil, nil
	}
	return marks, err
}

// MayLead tells whether a candidate whose turn it is shall take it: false if another one
// is preferred.
func (q *Queue) MayLead(ctx context.Context, e *Entry) (bool, error) {
	if e.first {
		return true, nil // nobody else was there
	}
	var m *mirror
	if q.view != nil && q.view.serves(e) {
		m = q.view.mirror
	} else {
		var err error
		if m, err = q.read(ctx); err != nil {
			return false, err
		}
	}
	var marks []*mvccpb.KeyValue
	if q.sawMark || m.touched() {
		var err error
		if marks, err = q.readMarks(ctx); err != nil {
			return false, err
		}
	}
	// Nobody marks while e may lead: a mark whose entry is not there has been left behind.
	q.sawMark = false
	for _, by := range marks {
		if q.marked(m.entries, by) != nil {
			q.sawMark = true
		} else {
			q.clearMark(ctx, by)
		}
	}
	if next := q.next(m.entries, marks); next != nil {
		return string(next.Key) == e.Key, nil
	}
	return !m.higher(e), nil
}

// touched tells whether any entry was written again since it came, as one that is marked is.
func (m *mirror) touched() bool {
	for _, kv := range m.entries {
		if kv.ModRevision > kv.CreateRevision {
			return true
		}
	}
	return false
}

// higher tells whether anybody has a higher priority than e.
func (m *mirror) higher(e *Entry) bool {
	own := wire.Priority(e.Key)
	for key := range m.entries {
		if wire.Priority(key) > own {
			return true
		}
	}
	return false
}

// StepBehind gives up the place of an entry for one behind all others, in one transaction, by
// a key in another slot. For unsure see Enter.
func (q *Queue) StepBehind(ctx context.Context, e *Entry, w Want) (moved *Entry, unsure bool, err error) {
	key := wire.SlotKey(q.name, w.Lease, w.Slot)
	tried := false
	unsure, err = q.retry(ctx, int64(w.Lease), func(ctx context.Context) error {
		resp, err := q.writer.Commit(ctx, etcdkv.Txn{
			Name: q.name,
			If:   []clientv3.Cmp{e.Guard(), created(key, 0)},
			Then: []clientv3.Op{clientv3.OpDelete(e.Key), clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease))},
			Else: []clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(key)},
		})
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
			return lockerr.ErrEvicted
		}
		moved = adopt(key, w, there) // by an earlier try of ours, whose answer was lost
		return nil
	})
	return moved, unsure, err
}

// HandTo deletes our key and marks a candidate as the next, in one transaction. ErrNoTarget
// when the candidate is not there, and ErrEvicted when our key is not; then nothing was done.
func (q *Queue) HandTo(ctx context.Context, e *Entry, to *mvccpb.KeyValue) error {
	tried := false
	_, err := q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		under := clientv3.WithLease(clientv3.LeaseID(to.Lease))
		key, value := wire.MarkKey(q.name, clientv3.LeaseID(to.Lease)), newMark(to)
		then := []clientv3.Op{
			clientv3.OpDelete(e.Key), clientv3.OpPut(key, value, under),
			clientv3.OpPut(string(to.Key), string(to.Value), under), // as it is, see mark
		}
		if own := wire.MarkKey(q.name, e.Lease); own != key {
			then = append(then, clientv3.OpDelete(own))
		}
		resp, err := q.writer.Commit(ctx, etcdkv.Txn{
			Name: q.name,
			If: []clientv3.Cmp{
				e.Guard(), created(string(to.Key), to.CreateRevision),
				clientv3.Compare(clientv3.ModRevision(string(to.Key)), "=", to.ModRevision),
			},
			Then: then,
			Else: []clientv3.Op{clientv3.OpGet(e.Key), clientv3.OpGet(string(to.Key)), clientv3.OpGet(key)},
		})
		if err != nil || resp.Succeeded {
			tried = true
			return err
		}
		read := func(i int) *mvccpb.KeyValue { return youngest(resp.Responses[i].GetResponseRange().Kvs) }
		own, target, marked := read(0), read(1), read(2)
		stands, there := own != nil && own.CreateRevision == e.CreateRevision, target != nil && same(target, to)
		switch {
		case !stands && tried && (!there || marked != nil && string(marked.Value) == value):
			return nil // by an earlier try of ours, whose answer was lost: it waits or leads by the mark, or has gone
		case !stands:
			return lockerr.ErrEvicted
		case !there:
			return ErrNoTarget
		}
		to = target // which has written its key again
		return errAgain
	})
	return err
}

// mayBeMarked is false for one that found nobody when it came, as only who leads marks, and one
// who waits. A key that was adopted, for whatever, may have been a candidate's.
func (e *Entry) mayBeMarked() bool { return e.candidate && !e.first || e.touched.Load() }

// leaveMarked deletes the key of a candidate, and the mark that it may have. Whether there may
// be one the deletion tells: so who was never marked needs no permission beside the queue.
func (q *Queue) leaveMarked(ctx context.Context, e *Entry) (deleted bool, err error) {
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{
		Name: q.name, If: []clientv3.Cmp{e.Guard()}, Then: []clientv3.Op{clientv3.OpDelete(e.Key, clientv3.WithPrevKV())},
	})
	if err != nil || !resp.Succeeded {
		return false, err
	}
	for _, was := range resp.Responses[0].GetResponseDeleteRange().PrevKvs {
		if e.touched.Load() || was.ModRevision > e.modRevision.Load() {
			key := wire.MarkKey(q.name, e.Lease)
			q.tryTxn(ctx, clientv3.Compare(clientv3.Value(key), "=", newMark(was)), clientv3.OpDelete(key))
		}
	}
	return true, nil
}

// clearMark deletes a mark if the candidate that it marks is not there: one of another
// library, or one that could not take it along.
func (q *Queue) clearMark(ctx context.Context, by *mvccpb.KeyValue) {
	q.tryTxn(ctx, clientv3.Compare(clientv3.ModRevision(string(by.Key)), "=", by.ModRevision), clientv3.OpDelete(string(by.Key)))
}

// tryTxn is for what is better done, and does no harm if it is not.
func (q *Queue) tryTxn(ctx context.Context, guard clientv3.Cmp, op clientv3.Op) {
	ctx, cancel := context.WithTimeout(ctx, etcdkv.LastBound)
	defer cancel()
	_, _ = q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, If: []clientv3.Cmp{guard}, Then: []clientv3.Op{op}})
}
