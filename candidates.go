package etcdlock

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Candidate is one entry in the queue of an [Election]: the leader, or a candidate that waits.
// The priority of [WithPriority] is the Priority of its QueueEntry.
type Candidate struct {
	QueueEntry

	// Value is what the candidate proposed, or the leader proclaimed last: the Value of the
	// QueueEntry as a string.
	Value string

	// Takeover is true if the candidate has the option [WithTakeover].
	Takeover bool

	// Leading is true for the entry that [Election.Leader] names at that revision: the oldest
	// one. It leads or is about to, unless it steps behind a candidate that is preferred.
	Leading bool
}

func newCandidate(kv *mvccpb.KeyValue, holding, leading bool) Candidate {
	k, _ := wire.ParseKey(string(kv.Key)) // a key of another library has no slot
	return Candidate{
		QueueEntry: newQueueEntry(kv, holding),
		Value:      string(kv.Value),
		Takeover:   k.Slot.Takeover,
		Leading:    leading,
	}
}

// Queue lists the leader and the candidates that wait, by age and at one revision, as
// [Mutex.Queue] does. [Election.Candidates] lists them in the order in which they are to lead.
func (e *Election) Queue(ctx context.Context) ([]QueueEntry, error) {
	return e.session.list(ctx, e.name)
}

// Candidates lists the leader and the candidates that wait, in the order in which they are to
// lead as it is at one revision: by age, unless a [Term.Transfer] or a priority decides
// otherwise. The list is empty while the queue is empty. Candidates blocks until etcd
// has answered, or ctx or the session ends.
//
// Errors:
//   - the error of ctx
//   - [ErrSessionClosed]
//   - [ErrInvalidName]
//   - an error with which etcd refuses the request
func (e *Election) Candidates(ctx context.Context) ([]Candidate, error) {
	if err := e.session.usable(e.name); err != nil {
		return nil, opError("list the candidates of", e.name, err)
	}
	ctx, stop := e.session.engine.Within(ctx)
	defer stop()
	kvs, _, err := e.session.etcd.Queues.Queue(e.name).Candidates(ctx)
	if err != nil {
		return nil, opError("list the candidates of", e.name, err)
	}
	holding := make(map[*mvccpb.KeyValue]bool, len(kvs))
	for _, c := range queue.Contenders(e.name, kvs) {
		holding[c.KeyValue] = len(c.Ahead) == 0
	}
	all := make([]Candidate, 0, len(kvs))
	for i, kv := range kvs {
		if !wire.Pauses(string(kv.Key)) {
			all = append(all, newCandidate(kv, holding[kv], i == 0))
		}
	}
	return all, nil
}
