package etcdlock

import (
	"context"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// Leader is the leader of an election, as seen in etcd at one revision.
type Leader struct {
	Value string // what it proposed or proclaimed
	Key   string
	Lease clientv3.LeaseID

	// CreateRevision is the revision at which the leader became a candidate. It is the number of
	// the term. It grows from leader to leader, is the same for all observers and for the leader
	// itself ([Term.CreateRevision]), and distinguishes two terms of one candidate.
	CreateRevision int64
	// MinToken is a fencing token that the leader's own token ([Held.Token]) is not smaller than.
	// An observer may refuse a request with a token smaller than MinToken. If the observer saw the
	// change of the leader, MinToken is larger than the token of every earlier leader. Otherwise,
	// as for the first observation, the token of an earlier leader may be as large.
	MinToken int64
	// Revision is the revision of the observation.
	Revision int64

	// Unconfirmed is true if the leader may have given up although its key exists. This can happen
	// after an outage of etcd. A new raft leader gives every lease its full TTL again, and a leader
	// that could not renew its lease meanwhile has lost its term by then. Unconfirmed becomes false
	// when the leader has proclaimed a value since, or its lease must have been renewed. A session
	// knows only of an outage during its life.
	Unconfirmed bool
}

// Vacant reports whether there is no leader.
func (l Leader) Vacant() bool { return l.Key == "" }

func newLeader(head queue.Head) Leader {
	if head.First == nil {
		return Leader{Revision: head.Rev}
	}
	return Leader{
		Value:          string(head.First.Value),
		Key:            string(head.First.Key),
		Lease:          clientv3.LeaseID(head.First.Lease),
		CreateRevision: head.First.CreateRevision,
		MinToken:       head.Since,
		Revision:       head.Rev,
		Unconfirmed:    head.Unconfirmed,
	}
}

// Leader reads the present leader. The session does not have to be a candidate. Leader blocks until
// etcd has answered, or ctx or the session ends. It makes one request, and a second one for
// [Leader.Unconfirmed] after an outage of etcd. The answer may be out of date when it arrives. An
// action that depends on the leader needs its fencing token or [Term.Guard].
//
// Errors:
//   - [ErrNoLeader] if there is no leader
//   - the error of ctx
//   - [ErrSessionClosed]
//   - [ErrInvalidName]
//   - an error with which etcd refuses the request
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	if err := e.session.usable(e.name); err != nil {
		return Leader{}, opError("find the leader of", e.name, err)
	}
	head, err := e.session.engine.Followers.First(ctx, e.name)
	if err == nil && head.First == nil {
		err = ErrNoLeader
	}
	if err != nil {
		return Leader{}, opError("find the leader of", e.name, err)
	}
	return newLeader(head), nil
}

// Observe yields the present leader and then each change: another leader, another value, or a
// vacancy, see [Leader.Vacant]. Each observation is the state at one revision, and observations
// come in order. After a lost connection, a compaction or a restart of etcd, Observe continues with
// the present state if it differs from the last observation. After an outage it may yield the same
// leader again, as [Leader.Unconfirmed], and once more when the leader is known to continue. After
// etcd was restored from a backup, revisions may be smaller than before, see [ErrRolledBack].
//
// Observe blocks between two observations. It ends when ctx ends or the loop is left. If it cannot
// continue, for example after the end of the session or without permission, it yields the reason
// last.
//
// All observers of one election in one session share one watch. A slow observer delays no other
// observer. It misses no change unless it falls behind by more than 256 changes, or by changes with
// more than 4 MiB of values. Then it misses the oldest ones.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		err := e.session.usable(e.name)
		if err == nil {
			err = e.session.observe(ctx, e.name, func(l Leader) bool { return yield(l, nil) })
		}
		if err != nil && ctx.Err() == nil {
			yield(Leader{}, opError("observe", e.name, err))
		}
	}
}

// observe reports the leader of an election until report returns false, ctx ends or the session
// ends; see [observe.Followers].
func (s *Session) observe(ctx context.Context, name string, report func(Leader) bool) error {
	return s.engine.Followers.Observe(ctx, name, func(head queue.Head) bool { return report(newLeader(head)) })
}
