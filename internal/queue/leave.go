package queue

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Leave deletes our key, or all keys of an entry in several queues by one transaction. It blocks until
// etcd has confirmed that they are gone, or ctx ends. The error is ErrEvicted if another client had deleted
// one. tried is true if an earlier try of ours may have done so.
func (s *shared) Leave(ctx context.Context, e *Entry, tried bool) error {
	deleted := false
	unanswered, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		deleted, err = s.LeaveOnce(ctx, e)
		return err
	})
	if err == nil && !deleted && !unanswered && !tried {
		return lockerr.ErrEvicted
	}
	return err
}

// LeaveOnce is one try of Leave. The caller bounds ctx. deleted is false, without an error, if a key was
// gone before.
func (s *shared) LeaveOnce(ctx context.Context, e *Entry) (deleted bool, err error) {
	switch {
	case e.parts != nil:
		return s.leaveAll(ctx, e)
	case e.marked:
		return s.line(e.name()).leaveMarked(ctx, departing{Entry: e, inbox: wire.InboxKey(e.name(), e.Lease)})
	case e.mayBeNamed():
		return s.leaveNamed(ctx, e)
	default:
		return s.leavePlain(ctx, e)
	}
}

// leavePlain deletes the key of an entry, and no more.
func (s *shared) leavePlain(ctx context.Context, e *Entry) (deleted bool, err error) {
	resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: e.name(), Compact: &etcdkv.Compact{
		From: e.Key, Created: e.CreateRevision, Key: e.Key, Delete: true,
	}})
	return err == nil && resp.Succeeded, err
}

// leaveAll deletes those of several keys that stand.
func (s *shared) leaveAll(ctx context.Context, e *Entry) (deleted bool, err error) {
	var each []clientv3.Op
	for _, part := range e.Parts() {
		each = append(each, clientv3.OpTxn([]clientv3.Cmp{part.Guard()}, []clientv3.Op{clientv3.OpDelete(part.Key)}, nil))
	}
	resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: e.Parts()[0].name(), Then: each, Alone: true})
	if err != nil {
		return false, err
	}
	for i := range e.Parts() {
		if !resp.Responses[i].GetResponseTxn().Succeeded {
			return false, nil
		}
	}
	return true, nil
}
