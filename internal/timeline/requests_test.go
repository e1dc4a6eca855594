package timeline_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// report R5
func TestEachKindOfRequestProvesARollbackButASerializableRead(t *testing.T) {
	for name, request := range map[string]func(context.Context, clientv3.KV, clientv3.Lease) error{
		"get": func(ctx context.Context, kv clientv3.KV, _ clientv3.Lease) error {
			_, err := kv.Get(ctx, "k")
			return err
		},
		"put": func(ctx context.Context, kv clientv3.KV, _ clientv3.Lease) error {
			_, err := kv.Put(ctx, "k", "v")
			return err
		},
		"delete": func(ctx context.Context, kv clientv3.KV, _ clientv3.Lease) error {
			_, err := kv.Delete(ctx, "k")
			return err
		},
		"transaction": func(ctx context.Context, kv clientv3.KV, _ clientv3.Lease) error {
			_, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Version("k"), "=", 1)).Then(clientv3.OpGet("k")).Else(clientv3.OpGet("l")).Commit()
			return err
		},
		"grant": func(ctx context.Context, _ clientv3.KV, l clientv3.Lease) error {
			_, err := l.Grant(ctx, 10)
			return err
		},
		"serializable": func(ctx context.Context, kv clientv3.KV, _ clientv3.Lease) error {
			_, err := kv.Get(ctx, "k", clientv3.WithSerializable())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := simetcd.New(simetcd.Config{Seed: 1})
				defer srv.Close()
				client := srv.Client("a")
				kv, tr := timeline.Of(client.KV)
				again, same := timeline.Of(kv)
				require.Same(t, tr, same)
				require.Equal(t, kv, again)
				for range 10 {
					_, err := kv.Put(t.Context(), "k", "v")
					require.NoError(t, err)
				}
				srv.Stop()
				srv.Restore(nil, simetcd.Restored{})
				srv.Start()
				require.NoError(t, request(t.Context(), kv, tr.Leases(client.Lease)))
				if name == "serializable" {
					require.Zero(t, tr.Number())
				} else {
					require.Equal(t, 1, tr.Number())
				}
			})
		})
	}
}
