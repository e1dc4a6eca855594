package queue

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Rewrite gives our key another value, or all keys of an entry in several queues. Its place in the queue stays. The error is ErrEvicted if the
// entry does not stand.
//
// Each try is guarded by the last write that is known. So a try that arrives after its caller gave up
// does not undo a later write.
func (s *shared) Rewrite(ctx context.Context, e *Entry, value string) error {
	if e.parts != nil {
		return s.rewriteAll(ctx, e, value)
	}
	return s.RewriteFor(ctx, e, Want{Value: value})
}

// rewriteAll gives several keys another value, in one transaction.
func (s *shared) rewriteAll(ctx context.Context, e *Entry, value string) error {
	var guards []clientv3.Cmp
	var puts []clientv3.Op
	for _, part := range e.Parts() {
		guards = append(guards, part.Guard())
		puts = append(puts, clientv3.OpPut(part.Key, value, clientv3.WithLease(part.Lease)))
	}
	_, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := s.writer.Commit(ctx, etcdkv.Txn{Name: e.Parts()[0].name(), If: guards, Then: puts, Alone: true})
		switch {
		case err != nil:
			return err
		case !resp.Succeeded:
			return lockerr.ErrEvicted
		}
		for _, part := range e.Parts() {
			part.writtenAgain(resp.Header.Revision, &value)
		}
		return nil
	})
	return err
}

// RewriteFor is Rewrite for a value that may depend on a key beside the queue.
func (s *shared) RewriteFor(ctx context.Context, e *Entry, w Want) error {
	side := w.Rule.beside()
	tried := false
	_, err := s.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		for {
			last := e.modRevision.Load()
			resp, err := s.writer.Commit(ctx, etcdkv.Txn{
				Name: e.name(),
				If:   append(side.asKnown(), e.Guard(), clientv3.Compare(clientv3.ModRevision(e.Key), "=", last)),
				Then: []clientv3.Op{clientv3.OpPut(e.Key, w.Value, clientv3.WithLease(e.Lease))},
				Else: append([]clientv3.Op{clientv3.OpGet(e.Key)}, side.read()...),
			})
			if err != nil {
				tried = true
				return err
			}
			if resp.Succeeded {
				e.writtenAgain(resp.Header.Revision, &w.Value)
				return nil
			}
			own := resp.Responses[0].GetResponseRange().Kvs
			if !e.standsIn(only(own)) {
				return lockerr.ErrEvicted
			}
			e.wrote(own[0].ModRevision)
			e.touched.Store(true)
			if tried && string(own[0].Value) == w.Value {
				return nil // by an earlier try without an answer
			}
			w.heed(resp)
		}
	})
	return err
}
