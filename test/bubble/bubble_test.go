package bubble

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// Virtual time passes for the real server too: a lease that is not renewed expires when
// the TTL is over, which takes no time outside.
func TestTheRealServerRunsInVirtualTime(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		e := newEtcd(t)
		defer e.stop()
		a, b := e.client(), e.client()
		defer a.close()
		defer b.close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		session := func(c *client) *etcdlock.Session {
			s, err := etcdlock.NewSession(ctx, c.Client, etcdlock.WithTTL(10*time.Second))
			require.NoError(t, err)
			return s
		}
		sa, sb := session(a), session(b)
		defer sa.Close(ctx)
		defer sb.Close(ctx)
		first, err := etcdlock.NewMutex(sa, "lock").Lock(ctx)
		require.NoError(t, err)
		a.net.Hold()
		start := time.Now()
		second, err := etcdlock.NewMutex(sb, "lock").Lock(ctx)
		require.NoError(t, err)
		t.Logf("granted after %v, the first one was told: %v", time.Since(start), first.Err())
		require.ErrorIs(t, first.Err(), etcdlock.ErrExpired)
		require.Greater(t, second.Token(), first.Token())
		require.InDelta(t, 10*time.Second, time.Since(start), float64(2*time.Second))
		a.calm()
		require.NoError(t, second.Unlock(ctx))
	})
	t.Logf("in %v", time.Since(began))
}
