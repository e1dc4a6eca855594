package queue

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// successor is the value of a successor key: the candidate that a leader has named. It has only the end
// of that candidate's key, because clients with different namespaces see different beginnings.
//
// A successor key stands beside the queue, and no watch of the queue reports it. So the transaction that
// writes it also writes the entry that it names, unchanged. Successor keys are read if an entry was
// written again. A successor key without its entry has no effect.
type successor struct {
	Tail           string `json:"next"`
	CreateRevision int64  `json:"rev"`
}

func newSuccessor(of *mvccpb.KeyValue) string {
	value, _ := json.Marshal(successor{wire.Tail(string(of.Key)), of.CreateRevision}) // never fails
	return string(value)
}

// candidates returns the entries of an election for the rules, in the order of kvs, with the successor
// keys that name them. gone are the successor keys without their entry.
func (l *line) candidates(kvs, successors []*mvccpb.KeyValue) (all []admission.Entry, gone []*mvccpb.KeyValue) {
	all = make([]admission.Entry, len(kvs))
	for i, kv := range kvs {
		all[i] = candidate(string(kv.Key))
		all[i].Created = kv.CreateRevision
	}
	for _, by := range successors {
		var s successor
		if json.Unmarshal(by.Value, &s) != nil {
			gone = append(gone, by)
			continue
		}
		key := wire.WithTail(l.from, s.Tail)
		i := slices.IndexFunc(kvs, func(kv *mvccpb.KeyValue) bool {
			return kv.CreateRevision == s.CreateRevision && string(kv.Key) == key
		})
		if i < 0 {
			gone = append(gone, by)
			continue
		}
		all[i].NamedBy(by.ModRevision)
	}
	return all, gone
}

// candidate returns a candidate for the rules, by its key.
func candidate(key string) (e admission.Entry) {
	e.Priority, e.Takeover = wire.Rank(key)
	return e
}

// readSuccessors reads the successor keys of the queue. A role without the permission to read them leads
// as if there were none.
func (l *line) readSuccessors(ctx context.Context) (successors []*mvccpb.KeyValue, err error) {
	from, end := wire.SuccessorKeys(l.name)
	resp, err := ask(ctx, l.shared, 0, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return l.kv.Get(ctx, from, clientv3.WithRange(end))
	})
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return resp.Kvs, nil
}

// mayBeNamed is false for a candidate that entered an empty queue, because a leader names a candidate that
// waits. A key that was adopted may have been a candidate's.
func (e *Entry) mayBeNamed() bool { return e.candidate && !e.first || e.touched.Load() }

// leaveNamed deletes the key of a candidate, and then the successor key that names it if there may be one.
// So a candidate that was never named needs no permission beside the queue.
func (s *shared) leaveNamed(ctx context.Context, e *Entry) (deleted bool, err error) {
	resp, err := s.writer.Commit(ctx, etcdkv.Txn{
		Name: e.name(), If: []clientv3.Cmp{e.Guard()}, Then: []clientv3.Op{clientv3.OpDelete(e.Key, clientv3.WithPrevKV())},
	})
	if err != nil || !resp.Succeeded {
		return false, err
	}
	for _, was := range resp.Responses[0].GetResponseDeleteRange().PrevKvs {
		if e.touched.Load() || was.ModRevision > e.modRevision.Load() {
			key := wire.SuccessorKey(e.name(), e.Lease)
			s.tryTxn(ctx, e.name(), clientv3.Compare(clientv3.Value(key), "=", newSuccessor(was)), clientv3.OpDelete(key))
		}
	}
	return true, nil
}

// clearSuccessor deletes a successor key without its candidate. The candidate was of another library, or
// could not delete this key.
func (l *line) clearSuccessor(ctx context.Context, by *mvccpb.KeyValue) {
	l.tryTxn(ctx, l.name, clientv3.Compare(clientv3.ModRevision(string(by.Key)), "=", by.ModRevision), clientv3.OpDelete(string(by.Key)))
}

// tryTxn tries a transaction once. Nothing breaks if it fails.
func (s *shared) tryTxn(ctx context.Context, name string, guard clientv3.Cmp, op clientv3.Op) {
	ctx, cancel := context.WithTimeout(ctx, etcdkv.LastBound)
	defer cancel()
	_, _ = s.writer.Commit(ctx, etcdkv.Txn{Name: name, If: []clientv3.Cmp{guard}, Then: []clientv3.Op{op}})
}
