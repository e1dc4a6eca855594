package queue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// In a long queue the read at the end of a wait costs etcd more than all else. So an entry is marked
// there, and the one ahead of it tells it that it holds, see handover.go. A marked entry sleeps while
// another marked one is ahead. If there is none, or after a while, it waits like any other.

// Crowded reports whether the next entry shall be marked, by its slot.
func (q *Queue) Crowded() bool {
	if q.last != nil && q.last.behind.Load() == untold {
		q.bar()
		q.last = nil
		q.inbox.unwritten()
	}
	marks := q.crowd < 0 || q.longerThan(q.crowd) && q.waits.pays()
	marks = marks && q.mayMark()
	if marks && !q.marked.Load() {
		q.marked.Store(true)
	}
	return marks
}

// HasMarked reports whether an entry of the session was to be marked so far, of any name. It is safe for
// concurrent use.
func (s *shared) HasMarked() bool { return s.crowd < 0 || s.marked.Load() }

// Listens makes the inbox ready for the next entry of a lease. It returns false if the inbox cannot be
// watched soon, or ctx ends. Then the entry is not to be marked: those behind would find that nothing can be
// told to it.
func (q *Queue) Listens(ctx context.Context, lease clientv3.LeaseID) bool {
	q.renew()
	q.openInbox(ctx, lease)
	switch {
	case q.inbox != nil:
		q.unheard = 0
		return true
	case ctx.Err() != nil: // it may be possible to watch it
		return false
	}
	if q.unheard++; q.unheard >= mostUnheard {
		q.bar()
	}
	return false
}

// enterMarked is enter for a marked entry. It reads two keys, and no more: whether another marked entry
// is ahead, and how many entries there are.
func (q *Queue) enterMarked(ctx context.Context, w *Want) (e *Entry, own []*mvccpb.KeyValue, err error) {
	key, inbox := q.key(*w), q.inbox.write()
	then := []clientv3.Op{
		clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithLimit(2), clientv3.WithKeysOnly()),
		clientv3.OpPut(key, w.Value, clientv3.WithLease(w.Lease)),
	}
	resp, err := q.writer.Commit(ctx, etcdkv.Txn{
		Name: q.name, If: []clientv3.Cmp{created(key, 0)}, Then: append(then, inbox...), Else: []clientv3.Op{clientv3.OpGet(key)},
	})
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied) && inbox != nil:
		q.bar()
		q.closeInbox()
		q.posted.Store(int64(clientv3.NoLease))
		return nil, nil, ErrUnmarked
	case err != nil:
		return nil, nil, err
	case !resp.Succeeded:
		return nil, resp.Responses[0].GetResponseRange().Kvs, nil
	}
	if inbox != nil {
		q.inbox.written = resp.Header.Revision
	}
	e = newEntry(key, *w, resp.Header.Revision)
	q.last = e
	older := resp.Responses[0].GetResponseRange()
	q.found(older.Count)
	e.sees(seen{count: older.Count})
	e.first = older.Count == 0
	for _, kv := range older.Kvs {
		_, marked := wire.MarkedOf(q.name, string(kv.Key))
		e.asleep = e.asleep || marked && q.inbox != nil
	}
	return e, nil, nil
}

// awaitTurn is Await for a marked entry.
func (q *Queue) awaitTurn(ctx context.Context, e *Entry) (rev int64, err error) {
	if q.inbox != nil {
		rules := settling(q.waits.last).seeded(e.Lease)
		q.inbox.begin(rules)
		rev, err = q.sleep(ctx, e, q.waits.began.Add(rules.first)) // also if it is begun again
	}
	if rev == 0 && err == nil {
		rev, err = q.awaitPredecessor(ctx, e)
	}
	switch {
	case err == nil:
		e.grantMarked(rev)
	case errors.Is(err, lockerr.ErrEvicted):
		_, _ = q.retry(ctx, int64(e.Lease), func(ctx context.Context) error { return q.tellBehind(ctx, e) })
	}
	return rev, err
}

// sleep waits for a message. It returns 0 when the entry is to wait like any other.
func (q *Queue) sleep(ctx context.Context, e *Entry, settles time.Time) (rev int64, err error) {
	if !e.asleep {
		return 0, nil
	}
	settled := make(chan struct{})
	timer := time.AfterFunc(time.Until(settles), func() { close(settled) }) // the inbox may have no watch by then
	defer timer.Stop()
	for e.asleep {
		what, err := q.inbox.next(ctx, settled)
		if err != nil {
			return 0, err
		}
		q.inbox.missed(what)
		rev, look := q.inbox.tells(e)
		if rev > 0 {
			e.obstacle.Store(nil) // it has left, and others held since then
			return rev, nil
		}
		e.asleep = !look && what != opened && what != due && what != woken // messages may have been missed
	}
	return 0, nil
}
