package locks

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestAKilledHoldersLockGoesToTheNextOneOnlyAfterTheLockDelay(t *testing.T) {
	f := newFixture(t)
	const ttl, delay = 2 * time.Second, 2 * time.Second
	h := f.Start(cluster.HolderSettings{Lock: "lock", TTL: ttl, Delay: delay})
	held := h.Next("held")
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	key, err := f.Admin.Get(f.Ctx(), held.Key)
	require.NoError(t, err)
	asked := time.Now()
	left, err := f.Admin.TimeToLive(f.Ctx(), clientv3.LeaseID(key.Kvs[0].Lease))
	require.NoError(t, err)
	killed := time.Now()
	h.Signal(syscall.SIGKILL)
	l := cluster.Granted(t, next)
	after := l.At.Sub(killed)
	t.Logf("figure: TTL %v, lock-delay %v: held again %v after kill -9", ttl, delay, after)
	require.EqualValues(t, (ttl+delay)/time.Second, left.GrantedTTL)
	require.GreaterOrEqual(t, l.At.Sub(asked), time.Duration(left.TTL)*time.Second, "what etcd said was left")
	require.Less(t, after, ttl+delay+cluster.ExpirySlack)
	cluster.Release(t, l.Handle)

	const long = 20 * time.Second
	h = f.Start(cluster.HolderSettings{Lock: "lock", TTL: ttl, Delay: long})
	h.Next("held")
	next = cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	ended := time.Now()
	h.Quit()
	l = cluster.Granted(t, next)
	require.Less(t, l.At.Sub(ended), long, "in order there is no delay")
	cluster.Release(t, l.Handle)
}

func TestADeadlockOfTwoSessionsIsRefusedAndListed(t *testing.T) {
	f := newFixture(t)
	a, b := f.Session(f.Client(), cluster.LongTTL), f.Session(f.Client(), cluster.LongTTL)
	detect := etcdlock.WithDeadlockDetection("x/")
	x, err := etcdlock.NewMutex(a, "x/1").Lock(f.Ctx())
	require.NoError(t, err)
	y, err := etcdlock.NewMutex(b, "x/2").Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.LockInBackground(x.Context(), etcdlock.NewMutex(a, "x/2", detect))
	f.WaitForKeys("x/2", 2)
	ctx, cancel := context.WithCancel(y.Context())
	defer cancel()
	blind := cluster.LockInBackground(ctx, etcdlock.NewMutex(b, "x/1"))
	f.WaitForKeys("x/1", 2)
	found, err := a.Deadlocks(f.Ctx(), "x/")
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Len(t, found[0], 2)
	cancel()
	require.ErrorIs(t, cluster.Receive(t, blind, "the end of the wait").Err, context.Canceled)
	f.WaitForKeys("x/1", 1)
	_, err = etcdlock.NewMutex(b, "x/1", detect).Lock(y.Context())
	require.ErrorIs(t, err, etcdlock.ErrDeadlock)
	cluster.Release(t, y)
	cluster.Release(t, cluster.Granted(t, waiting).Handle)
	cluster.Release(t, x)
}

func TestAHolderElsewhereIsAskedToLetGo(t *testing.T) {
	f := newFixture(t)
	l, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	s := f.Session(f.Client(), cluster.LongTTL)
	asked := cluster.InBackground(func() (struct{}, error) { return struct{}{}, s.Ask(f.Ctx(), "lock", "please") })
	r := cluster.Receive(t, l.Asked(), "a request")
	require.Equal(t, "please", r.Reason)
	cluster.StillWaiting(t, asked, 100*time.Millisecond)
	cluster.Release(t, l)
	cluster.Granted(t, asked)
	f.WaitForKeys("lock\x00ask", 0)
}

func TestNestedHoldsAndStripedLocks(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), cluster.LongTTL)
	m := etcdlock.NewStriped(s, "stripes", 16, etcdlock.WithReentry(2)).For("orders/42")
	require.Equal(t, "stripes/15", m.Name())
	l, err := m.Lock(f.Ctx())
	require.NoError(t, err)
	var n *etcdlock.Lock
	c.Costs(t, cluster.Cost{}, func() { n, err = m.Lock(l.Context()) })
	require.NoError(t, err)
	c.Costs(t, cluster.Cost{}, func() { cluster.Release(t, l) })
	require.Len(t, f.Keys("stripes/15"), 1)
	c.Costs(t, cluster.OneTxn, func() { cluster.Release(t, n) })
	require.Empty(t, f.Keys("stripes/15"))
}
