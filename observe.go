package etcdlock

import (
	"context"
	"iter"

	"github.com/etcdlock/etcdlock/internal/queue"
)

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
	if err == nil && newLeader(head).Vacant() {
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
