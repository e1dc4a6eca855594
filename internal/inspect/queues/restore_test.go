package queues

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// After a restore the revisions of etcd begin again below those that were told.
func TestAnAuditGoesOnAfterARestoreOfEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		for range 100 {
			etcd.PutKey("other", "x", 0)
		}
		lease := etcd.GrantLease(time.Hour)
		etcd.PutKey(wire.Key("x", lease), "old", lease)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var told []string
		go func() {
			ended <- Audit(ctx, etcd.Client("a").Client, "x", 0, func(a Audited) error {
				what := string(a.Event)
				if a.Entry != nil {
					what += " " + a.Entry.Key
				}
				told = append(told, what)
				return nil
			})
		}()
		time.Sleep(time.Second)
		etcd.Stop()
		etcd.Restore(nil, simetcd.Restored{})
		etcd.Start()
		lease = etcd.GrantLease(time.Hour)
		key := wire.Key("x", lease)
		etcd.PutKey(key, "new", lease)
		time.Sleep(10 * time.Minute)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Contains(t, told, string(Missed))
		require.Contains(t, told[len(told)-1], key)
	})
}
