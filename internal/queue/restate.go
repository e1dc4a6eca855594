package queue

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// restated is how many entries one transaction of RestateAll changes at first, below the
// default of the server's limit of operations. A server with a lower limit gets fewer.
const restated = 50

// RestateAll writes new values into all entries that restate changes, oldest first,
// whosever they are; each only if it is still as it was read. It returns when none is left,
// or when order does not hold any more, as somebody else restates them by now; or with the
// first error. Who enters meanwhile is not waited for: so entries must come with a value
// that need not be changed from before the call on. It tries until etcd has answered or ctx ends.
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
