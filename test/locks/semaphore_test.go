package locks

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestPermitsOnARealCluster(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	mine := etcdlock.NewSemaphore(f.Session(f.Client(c.Options()...), cluster.LongTTL), "jobs", 3)
	other := etcdlock.NewSemaphore(f.Session(f.Client(), cluster.LongTTL), "jobs", 3)
	ctx := f.Ctx()
	var p *etcdlock.Permit
	var err error
	c.Costs(t, cluster.OneTxn, func() { p, err = mine.Acquire(ctx, 1) }, "free")
	require.NoError(t, err)
	q, err := other.Acquire(ctx, 1)
	require.NoError(t, err)
	before := f.Revision()
	c.Costs(t, cluster.OneTxn, func() { _, err = mine.TryAcquire(ctx, 2) })
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.Revision(), "something was written")
	_, err = etcdlock.NewSemaphore(f.Session(f.Client(), cluster.LongTTL), "jobs", 4).Acquire(ctx, 1)
	require.ErrorIs(t, err, etcdlock.ErrLimitMismatch)
	f.WaitForKeys("jobs", 2) // what it wrote is taken back

	wait := cluster.InBackground(func() (*etcdlock.Permit, error) { return mine.Acquire(ctx, 3) })
	f.WaitForKeys("jobs", 3)
	small := cluster.InBackground(func() (*etcdlock.Permit, error) { return other.Acquire(ctx, 1) })
	f.WaitForKeys("jobs", 4)
	cluster.StillWaiting(t, wait, 200*time.Millisecond)
	cluster.StillWaiting(t, small, 50*time.Millisecond)
	require.NoError(t, other.SetLimit(ctx, 6))
	large, little := cluster.Granted(t, wait).Handle, cluster.Granted(t, small).Handle
	limit, err := mine.Limit(ctx)
	require.NoError(t, err)
	require.Equal(t, 6, limit)
	for _, p := range []*etcdlock.Permit{p, q, large, little} {
		require.NoError(t, p.Release(ctx))
	}
	require.NoError(t, other.SetLimit(ctx, 0))
	f.WaitForKeys("jobs", 0)
}

func TestManyForPermits(t *testing.T) {
	f := newFixture(t)
	const limit = 4
	var held, most atomic.Int64
	var workers []func() error
	for i := range 3 {
		m := etcdlock.NewSemaphore(f.Session(f.Client(), cluster.LongTTL), "jobs", limit)
		for j := range 4 {
			workers = append(workers, func() error {
				ctx := f.Ctx()
				for round := range 6 {
					n := 1 + (i+j+round)%limit
					p, err := m.Acquire(ctx, n)
					if err != nil {
						return err
					}
					if now := held.Add(int64(n)); now > limit {
						t.Errorf("%d permits of %d", now, limit)
					} else {
						most.Store(max(most.Load(), now))
					}
					time.Sleep(2 * time.Millisecond)
					held.Add(int64(-n))
					if err := p.Release(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	cluster.All(t, workers...)
	require.Equal(t, int64(limit), most.Load())
}

func TestThePermitsOfAKilledProcessAreFreeAfterItsTTL(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.Start(cluster.HolderSettings{Permits: "jobs", TTL: ttl})
	h.Next("held")
	m := etcdlock.NewSemaphore(f.Session(f.Client(), cluster.LongTTL), "jobs", 3)
	one, err := m.Acquire(f.Ctx(), 1)
	require.NoError(t, err)
	wait := cluster.InBackground(func() (*etcdlock.Permit, error) { return m.Acquire(f.Ctx(), 2) })
	f.WaitForKeys("jobs", 3)
	killed := time.Now()
	h.Signal(syscall.SIGKILL)
	two := cluster.Granted(t, wait)
	t.Logf("figure: TTL %v: permits free %v after kill -9", ttl, two.At.Sub(killed))
	require.Less(t, two.At.Sub(killed), ttl+cluster.ExpirySlack)
	require.NoError(t, one.Release(f.Ctx()))
	require.NoError(t, two.Handle.Release(f.Ctx()))
}
