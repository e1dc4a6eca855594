package test

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func TestPermitsOnARealCluster(t *testing.T) {
	f := newFixture(t)
	var c counter
	mine := etcdlock.NewSemaphore(f.session(f.client(c.options()...), 10*time.Second), "jobs", 3)
	other := etcdlock.NewSemaphore(f.session(f.client(), 10*time.Second), "jobs", 3)
	ctx := f.ctx()
	var p *etcdlock.Permit
	var err error
	require.Equal(t, oneTxn, c.during(func() { p, err = mine.Acquire(ctx, 1) }), "free")
	require.NoError(t, err)
	q, err := other.Acquire(ctx, 1)
	require.NoError(t, err)
	before := f.revision()
	require.Equal(t, oneTxn, c.during(func() { _, err = mine.TryAcquire(ctx, 2) }))
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.revision(), "something was written")
	_, err = etcdlock.NewSemaphore(f.session(f.client(), 10*time.Second), "jobs", 4).Acquire(ctx, 1)
	require.ErrorIs(t, err, etcdlock.ErrLimitMismatch)
	f.waitForKeys("jobs", 2) // what it wrote is taken back

	wait := inBackground(func() (*etcdlock.Permit, error) { return mine.Acquire(ctx, 3) })
	f.waitForKeys("jobs", 3)
	small := inBackground(func() (*etcdlock.Permit, error) { return other.Acquire(ctx, 1) })
	f.waitForKeys("jobs", 4)
	stillWaiting(t, wait, 200*time.Millisecond)
	stillWaiting(t, small, 50*time.Millisecond)
	require.NoError(t, other.SetLimit(ctx, 6))
	large, little := granted(t, wait).handle, granted(t, small).handle
	limit, err := mine.Limit(ctx)
	require.NoError(t, err)
	require.Equal(t, 6, limit)
	for _, p := range []*etcdlock.Permit{p, q, large, little} {
		require.NoError(t, p.Release(ctx))
	}
	require.NoError(t, other.SetLimit(ctx, 0))
	f.waitForKeys("jobs", 0)
}

func TestManyForPermits(t *testing.T) {
	f := newFixture(t)
	const limit = 4
	var held, most atomic.Int64
	var workers []func() error
	for i := range 3 {
		m := etcdlock.NewSemaphore(f.session(f.client(), 10*time.Second), "jobs", limit)
		for j := range 4 {
			workers = append(workers, func() error {
				ctx := f.ctx()
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
	all(t, workers...)
	require.Equal(t, int64(limit), most.Load())
}

func TestThePermitsOfAKilledProcessAreFreeAfterItsTTL(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.start(holderSettings{Permits: "jobs", TTL: ttl})
	h.next("held")
	m := etcdlock.NewSemaphore(f.session(f.client(), ttl), "jobs", 3)
	one, err := m.Acquire(f.ctx(), 1)
	require.NoError(t, err)
	wait := inBackground(func() (*etcdlock.Permit, error) { return m.Acquire(f.ctx(), 2) })
	f.waitForKeys("jobs", 3)
	killed := time.Now()
	h.signal(syscall.SIGKILL)
	two := granted(t, wait)
	t.Logf("figure: TTL %v: permits free %v after kill -9", ttl, two.at.Sub(killed))
	require.Less(t, two.at.Sub(killed), ttl+handoverBound)
	require.NoError(t, one.Release(f.ctx()))
	require.NoError(t, two.handle.Release(f.ctx()))
}

// A role for the queue alone does not permit a semaphore, whose limit stands beside it; the
// error says what does.
func TestASemaphoreNeedsTheRangeFromItsNameOn(t *testing.T) {
	f := newAuthFixture(t)
	grant := func(from, end string) {
		t.Helper()
		_, err := f.admin.RoleGrantPermission(f.ctx(), "guest", from, end, clientv3.PermissionType(clientv3.PermReadWrite))
		require.NoError(t, err)
	}
	grant("jobs/", "jobs0")
	s := f.session(f.clientAs("guest"), 3*time.Second)
	l, err := etcdlock.NewRWMutex(s, "jobs").RLock(f.ctx())
	require.NoError(t, err, "the queue is enough for all others")
	require.NoError(t, l.Unlock(f.ctx()))
	m := etcdlock.NewSemaphore(s, "jobs", 3)
	_, err = m.Acquire(f.within(5*time.Second), 1)
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
	require.ErrorContains(t, err, `permit the range from "jobs" to "jobs0"`)
	grant("jobs", "jobs0")
	p, err := m.Acquire(f.ctx(), 1)
	require.NoError(t, err)
	require.NoError(t, m.SetLimit(f.ctx(), 5))
	require.NoError(t, m.SetLimit(f.ctx(), 0))
	require.NoError(t, p.Release(f.ctx()))

	// A prefix for a group of names has all that belongs to them.
	app := etcdlock.NewSemaphore(f.session(f.clientAs("app"), 3*time.Second), "app/jobs", 3)
	p, err = app.Acquire(f.ctx(), 2)
	require.NoError(t, err)
	require.NoError(t, p.Release(f.ctx()))
}
