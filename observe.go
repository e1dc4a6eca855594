package etcdlock

import (
	"context"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leader is who leads an election, as seen in etcd at one revision.
type Leader struct {
	Value string // what it proposed or proclaimed
	Key   string
	Lease clientv3.LeaseID

	// CreateRevision is the revision at which it became a candidate. It tells two
	// terms of one candidate apart.
	CreateRevision int64
	// Revision is the revision at which this was so.
	Revision int64
}

// Vacant says that nobody leads.
func (l Leader) Vacant() bool { return l.Key == "" }

func newLeader(first *mvccpb.KeyValue, rev int64) Leader {
	if first == nil {
		return Leader{Revision: rev}
	}
	return Leader{
		Value:          string(first.Value),
		Key:            string(first.Key),
		Lease:          clientv3.LeaseID(first.Lease),
		CreateRevision: first.CreateRevision,
		Revision:       rev,
	}
}

// Leader reads who leads now, and needs not to be a candidate for it. It blocks
// until etcd has answered or ctx ends; [ErrNoLeader] when nobody leads. The answer
// may be out of date when it arrives: to act only while somebody leads, use his
// fencing token or [Hold.Guard].
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	if err := e.session.usable(e.name); err != nil {
		return Leader{}, opError("find the leader of", e.name, err)
	}
	first, rev, err := e.session.queue(e.name).First(ctx)
	if err == nil && first == nil {
		err = ErrNoLeader
	}
	if err != nil {
		return Leader{}, opError("find the leader of", e.name, err)
	}
	return newLeader(first, rev), nil
}

// Observe yields who leads, at once and after every change: another leader, another
// value, or nobody (a vacancy is an observation too, see [Leader.Vacant]). Each
// observation is the state at one revision, and they come in order. Over lost
// connections, compactions and restarts of etcd it takes up again where the present
// state differs from the last one it told.
//
// It blocks between two observations, and ends when ctx does or the loop is left.
// If it cannot go on, as after the session's end or without permission, it yields
// the reason as its last; an error is never followed by anything.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		if err := e.session.usable(e.name); err != nil {
			yield(Leader{}, opError("observe", e.name, err))
			return
		}
		following, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(e.session.ctx, func() { cancel(e.session.Err()) })()

		err := e.session.queue(e.name).Follow(following, func(first *mvccpb.KeyValue, rev int64) bool {
			return yield(newLeader(first, rev), nil)
		})
		if err != nil && ctx.Err() == nil {
			yield(Leader{}, opError("observe", e.name, err))
		}
	}
}
