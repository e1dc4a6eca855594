package queue

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// restated is the number of entries that one transaction of RestateAll changes at first. It is below a
// server's default limit of operations. A server with a lower limit gets fewer.
const restated = 50

// RestateAll writes new values into all entries that restate changes, oldest first, of all sessions. Each
// is written only if it is still as it was read. RestateAll returns when no entry is left to change, when
// order does not hold because another process restates the entries by now, or with the first error. It
// does not wait for entries that come meanwhile. So from before the call on, new entries must come with a
// value that needs no change. It blocks until etcd has answered or ctx ends.
func (q *Queue) RestateAll(ctx context.Context, order clientv3.Cmp, restate func(value []byte) (string, bool)) error {
	for most := restated; ; {
		all, _, err := q.List(ctx)
		if err != nil {
			return err
		}
		var each []clientv3.Op
		for _, kv := range all {
			value, changed := restate(kv.Value)
			if !changed || len(each) == most {
				continue
			}
			key := string(kv.Key)
			each = append(each, clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)},
				[]clientv3.Op{clientv3.OpPut(key, value, clientv3.WithIgnoreLease())}, nil))
		}
		if len(each) == 0 {
			return nil
		}
		var resp *clientv3.TxnResponse
		_, err = q.retry(ctx, 0, func(ctx context.Context) (err error) {
			resp, err = q.writer.Commit(ctx, etcdkv.Txn{Name: q.name, If: []clientv3.Cmp{order}, Then: each, Alone: true})
			return err
		})
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && most > 1:
			most /= 2
		case err != nil || !resp.Succeeded:
			return err
		}
	}
}
