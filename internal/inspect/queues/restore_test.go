package queues

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

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

// A user whose permission is taken away hears of it. Any other failure of a watch passes.
func TestAnAuditEndsWithoutPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		etcd.PutKey(wire.Key("x", 7), "", 0)
		began := time.Now()
		etcd.Intercept(func(c simetcd.Call) simetcd.Action {
			switch {
			case c.Kind != simetcd.Watch:
				return simetcd.Action{}
			case time.Since(began) < time.Minute:
				return simetcd.Action{Err: rpctypes.ErrGRPCNoLeader}
			default:
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := Audit(ctx, etcd.Client("a").Client, "x", 0, func(Audited) error { return nil })
		require.ErrorContains(t, err, "permission denied")
		require.InDelta(t, time.Minute, time.Since(began), float64(time.Minute))
	})
}

// An end is told with its reason, or by the audit that continues.
func TestAnAuditThatIsInterruptedTellsNoEndWithoutItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		key := wire.Key("x", 7)
		lease := etcd.GrantLease(time.Hour)
		etcd.PutKey(key, "", lease)
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		ended := make(chan error, 1)
		go func() {
			ended <- Audit(ctx, etcd.Client("a").Client, "x", 0, func(a Audited) error {
				told = append(told, string(a.Event))
				return nil
			})
		}()
		time.Sleep(time.Second)
		etcd.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{DropReply: c.Kind == simetcd.Range} })
		etcd.DeleteKey(key)
		time.Sleep(time.Second)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Equal(t, []string{string(Held)}, told)
	})
}

// A lease that is gone has expired only if it was not renewed for as long as its TTL.
func TestAnAuditTellsAnExpiryFromOtherEndsOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		client, ctx := etcd.Client("holder"), t.Context()
		var told []string
		audited, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- Audit(audited, etcd.Client("a").Client, "x", 0, func(a Audited) error {
				if a.Event == Ended {
					told = append(told, a.End)
				}
				return nil
			})
		}()
		hold := func() (key string, id clientv3.LeaseID) {
			lease, err := client.Grant(ctx, 10)
			require.NoError(t, err)
			key = wire.Key("x", lease.ID)
			etcd.PutKey(key, "", lease.ID)
			time.Sleep(5 * time.Second)
			_, err = client.KeepAliveOnce(ctx, lease.ID)
			require.NoError(t, err)
			time.Sleep(5 * time.Second)
			return key, lease.ID
		}
		key, id := hold()
		etcd.DeleteKey(key)
		_, err := client.Revoke(ctx, id)
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, id = hold()
		_, err = client.Revoke(ctx, id)
		require.NoError(t, err)
		time.Sleep(time.Second)
		hold()
		time.Sleep(time.Minute)
		key, _ = hold()
		etcd.DeleteKey(key)
		time.Sleep(time.Second)
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Equal(t, []string{EndClosed, EndClosed, EndLease, EndDeleted}, told)
	})
}
