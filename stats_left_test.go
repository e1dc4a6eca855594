package etcdlock_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// The key of a released lock blocks all others until it is deleted, so the key counts as left behind
// while the session tries.
func TestStatsHaveTheKeyOfAnUnconfirmedRelease(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		s := etcd.Process("a").Session()
		lock, err := etcdlock.NewMutex(s, "job").Lock(t.Context())
		require.NoError(t, err)
		var readers [2]*etcdlock.ReadLock
		for i := range readers {
			readers[i], err = etcdlock.NewRWMutex(s, "config").RLock(t.Context())
			require.NoError(t, err)
		}
		etcd.Intercept(func(r etcdlocktest.Request) etcdlocktest.Action {
			return etcdlocktest.Action{DropRequest: strings.Contains(fmt.Sprint(r.Message), "request_delete_range")}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, lock.Unlock(ctx), etcdlock.ErrUnconfirmed)
		for _, r := range readers {
			if err := r.Unlock(ctx); err != nil { // of the last one
				require.ErrorIs(t, err, etcdlock.ErrUnconfirmed)
			}
		}
		time.Sleep(time.Minute)
		require.Equal(t, 2, s.Stats().LeftBehind)
		require.Zero(t, s.Stats().Holds)
		etcd.Intercept(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, s.Stats().LeftBehind)
		require.Empty(t, etcd.Holder("job"))
	})
}
