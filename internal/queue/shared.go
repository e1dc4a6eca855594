package queue

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// shared is what all queues of a session share. Only marked changes.
type shared struct {
	*watching
	kv         clientv3.KV
	writer     *etcdkv.Writer
	log        *zap.Logger
	shortQueue int
	prefetch   int64
	crowd      int64
	marked     atomic.Bool // true once an entry was to be marked
}

// retry sends a request of the session until etcd gives an answer that counts, or ctx ends. Every
// request of this package can be sent twice, because a write is guarded by what the first try changes.
func (s *shared) retry(ctx context.Context, seed int64, try func(context.Context) error) (unanswered bool, err error) {
	return etcdkv.Retry(ctx, s.writer.Requests(seed), try)
}

// ask is retry for a request that has a value for an answer.
func ask[T any](ctx context.Context, s *shared, seed int64, try func(context.Context) (T, error)) (answer T, err error) {
	_, err = s.retry(ctx, seed, func(ctx context.Context) (err error) {
		answer, err = try(ctx)
		return err
	})
	return answer, err
}

// errAgain counts as no answer, so that retry tries again.
var errAgain = status.Error(codes.Aborted, "a key of another kind was in the way")

// created holds if a key has this CreateRevision.
func created(key string, rev int64) clientv3.Cmp { return etcdkv.Created(key, "", rev) }

// only returns the key that a read of at most one key has found, or nil.
func only(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}
