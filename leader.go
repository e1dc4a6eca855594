package etcdlock

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
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
func (l Leader) Vacant() bool { return l.Key == "" || l.Paused() }

// Paused reports whether there is no leader because the election is paused, by "etcdlock pause". No
// process leads until the pause ends. An election with a leader can be paused too, which this method
// does not report.
func (l Leader) Paused() bool { return wire.Pauses(l.Key) }

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
