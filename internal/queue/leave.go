package queue

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Leave deletes our key. It blocks until etcd has confirmed that the key is gone, or ctx ends. The
// error is ErrEvicted if another client had deleted the key. tried is true if an earlier try of ours
// may have done so.
func (q *Queue) Leave(ctx context.Context, e *Entry, tried bool) error {
	return q.leaveBy(ctx, e, tried, func(ctx context.Context) (bool, error) { return q.LeaveOnce(ctx, e) })
}

// leaveBy is Leave by a function that is one try of it.
func (s *shared) leaveBy(ctx context.Context, e *Entry, tried bool, once func(context.Context) (deleted bool, err error)) error {
	deleted := false
	unanswered, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) (err error) {
		deleted, err = once(ctx)
		return err
	})
	if err == nil && !deleted && !unanswered && !tried {
		return lockerr.ErrEvicted
	}
	return err
}

// LeaveOnce is one try of Leave. The caller bounds ctx. deleted is false, without an error, if the key
// was gone before.
func (q *Queue) LeaveOnce(ctx context.Context, e *Entry) (deleted bool, err error) {
	switch {
	case e.marked:
		return q.leaveMarked(ctx, departing{Entry: e, inbox: q.inboxOf(e)})
	case e.mayBeNamed():
		return q.leaveNamed(ctx, e)
	default:
		return q.leavePlain(ctx, e)
	}
}
