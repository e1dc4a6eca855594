package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// Candidates lists who leads and who waits to, in the order in which they are to lead
// as it is at one revision: by age, unless a [Term.Transfer] or a priority decides
// otherwise. The first one leads, or is about to. It blocks until etcd has answered or
// ctx ends.
func (e *Election) Candidates(ctx context.Context) ([]Leader, error) {
	if err := e.session.usable(e.name); err != nil {
		return nil, opError("list the candidates of", e.name, err)
	}
	kvs, rev, err := e.session.queue(e.name).Candidates(ctx)
	if err != nil {
		return nil, opError("list the candidates of", e.name, err)
	}
	all := make([]Leader, len(kvs))
	for i, kv := range kvs {
		all[i] = newLeader(queue.Head{First: kv, Rev: rev, Since: kv.CreateRevision})
	}
	return all, nil
}
