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

// report R5
func TestFollowGoesOnAfterARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		for range 100 {
			srv.PutKey("other", "x", 0)
		}
		lease := srv.GrantLease(time.Hour)
		srv.PutKey(wire.Key("x", lease), "old", lease)
		ctx, cancel := context.WithCancel(t.Context())
		var changes []Change
		ended := make(chan error, 1)
		go func() {
			ended <- Follow(ctx, srv.Client("a").Client, "x", func(c Change) error {
				changes = append(changes, c)
				return nil
			})
		}()
		time.Sleep(time.Second)
		srv.Stop()
		srv.Restore(nil, simetcd.Restored{})
		srv.Start()
		lease = srv.GrantLease(time.Hour)
		srv.PutKey(wire.Key("x", lease), "new", lease)
		time.Sleep(2 * lookEvery)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Len(t, changes, 3)
		require.Equal(t, []What{Granted, Gone, Granted}, []What{changes[0].What, changes[1].What, changes[2].What})
		require.Less(t, changes[2].Revision, changes[0].Revision)
	})
}
