package simetcd_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func session(t *testing.T, c *simetcd.Client, ttl int) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(c.Client, concurrency.WithTTL(ttl))
	require.NoError(t, err)
	return s
}

func TestEtcdsMutexHandsOver(t *testing.T) {
	simulate(t, simetcd.Config{Seed: 1}, func(t *testing.T, srv *simetcd.Server) {
		a := concurrency.NewMutex(session(t, srv.Client("a"), 5), "lock")
		b := concurrency.NewMutex(session(t, srv.Client("b"), 5), "lock")
		require.NoError(t, a.Lock(ctx))
		require.ErrorIs(t, b.TryLock(ctx), concurrency.ErrLocked)

		got := make(chan error, 1)
		go func() { got <- b.Lock(ctx) }()
		time.Sleep(time.Minute)
		require.Len(t, srv.Keys("lock/"), 2)
		require.Empty(t, got)

		require.NoError(t, a.Unlock(ctx))
		require.NoError(t, <-got)
		require.Equal(t, b.Key(), string(srv.Keys("lock/")[0].Key))
		require.NoError(t, b.Unlock(ctx))
		require.Empty(t, srv.Keys(""))
	})
}

func TestEtcdsMutexIsInheritedFromAClientThatIsCutOff(t *testing.T) {
	simulate(t, simetcd.Config{Seed: 1}, func(t *testing.T, srv *simetcd.Server) {
		ca := srv.Client("a")
		sa := session(t, ca, 5)
		a := concurrency.NewMutex(sa, "lock")
		b := concurrency.NewMutex(session(t, srv.Client("b"), 5), "lock")
		require.NoError(t, a.Lock(ctx))
		ca.Cut()
		start := time.Now()
		require.NoError(t, b.Lock(ctx))
		require.InDelta(t, 5*time.Second, time.Since(start), float64(2*time.Second))
		<-sa.Done()
		require.Len(t, srv.Leases(), 1)
	})
}

func TestEtcdsElectionHandsOverAndIsObserved(t *testing.T) {
	simulate(t, simetcd.Config{Seed: 1}, func(t *testing.T, srv *simetcd.Server) {
		ca := srv.Client("a")
		a := concurrency.NewElection(session(t, ca, 5), "election")
		b := concurrency.NewElection(session(t, srv.Client("b"), 5), "election")
		octx, cancel := context.WithCancel(ctx)
		defer cancel()
		observed := concurrency.NewElection(session(t, srv.Client("c"), 5), "election").Observe(octx)

		require.NoError(t, a.Campaign(ctx, "a1"))
		require.Equal(t, "a1", string((<-observed).Kvs[0].Value))
		require.NoError(t, a.Proclaim(ctx, "a2"))
		require.Equal(t, "a2", string((<-observed).Kvs[0].Value))
		won := make(chan error, 1)
		go func() { won <- b.Campaign(ctx, "b1") }()
		synctest.Wait()
		require.NoError(t, a.Resign(ctx))
		require.NoError(t, <-won)
		require.Equal(t, "b1", string((<-observed).Kvs[0].Value))
		leader, err := a.Leader(ctx)
		require.NoError(t, err)
		require.Equal(t, "b1", string(leader.Kvs[0].Value))
	})
}
