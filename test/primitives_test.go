package test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

func TestAKilledHoldersLockGoesToTheNextOneOnlyAfterTheLockDelay(t *testing.T) {
	f := newFixture(t)
	const ttl, delay = 2 * time.Second, 2 * time.Second
	h := f.start(holderSettings{Lock: "lock", TTL: ttl, Delay: delay})
	h.next("held")
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), ttl), "lock"))
	f.waitForKeys("lock", 2)
	killed := time.Now()
	h.signal(syscall.SIGKILL)
	l := granted(t, next)
	after := l.at.Sub(killed)
	t.Logf("figure: TTL %v, lock-delay %v: held again %v after kill -9", ttl, delay, after)
	require.Greater(t, after, ttl/2+delay, "a renewal is at most a third of the TTL old")
	require.Less(t, after, ttl+delay+handoverBound)
	release(t, l.handle)

	h = f.start(holderSettings{Lock: "lock", TTL: ttl, Delay: delay})
	h.next("held")
	next = lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), ttl), "lock"))
	f.waitForKeys("lock", 2)
	ended := time.Now()
	h.quit()
	l = granted(t, next)
	require.Less(t, l.at.Sub(ended), time.Second, "in order there is no delay")
	release(t, l.handle)
}

func TestADeadlockOfTwoSessionsIsRefusedAndListed(t *testing.T) {
	f := newFixture(t)
	a, b := f.session(f.client(), 5*time.Second), f.session(f.client(), 5*time.Second)
	detect := etcdlock.WithDeadlockDetection("x/")
	x, err := etcdlock.NewMutex(a, "x/1").Lock(f.ctx())
	require.NoError(t, err)
	y, err := etcdlock.NewMutex(b, "x/2").Lock(f.ctx())
	require.NoError(t, err)
	waiting := lockInBackground(x.Context(), etcdlock.NewMutex(a, "x/2", detect))
	f.waitForKeys("x/2", 2)
	ctx, cancel := context.WithCancel(y.Context())
	defer cancel()
	blind := lockInBackground(ctx, etcdlock.NewMutex(b, "x/1"))
	f.waitForKeys("x/1", 2)
	found, err := etcdlock.Deadlocks(f.ctx(), a, "x/")
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Len(t, found[0], 2)
	cancel()
	require.ErrorIs(t, receive(t, blind, "the end of the wait").err, context.Canceled)
	f.waitForKeys("x/1", 1)
	_, err = etcdlock.NewMutex(b, "x/1", detect).Lock(y.Context())
	require.ErrorIs(t, err, etcdlock.ErrDeadlock)
	release(t, y)
	release(t, granted(t, waiting).handle)
	release(t, x)
}

func TestAHolderElsewhereIsAskedToLetGo(t *testing.T) {
	f := newFixture(t)
	l, err := etcdlock.NewMutex(f.session(f.client(), 5*time.Second), "lock").Lock(f.ctx())
	require.NoError(t, err)
	s := f.session(f.client(), 5*time.Second)
	asked := inBackground(func() (struct{}, error) { return struct{}{}, etcdlock.Ask(f.ctx(), s, "lock", "please") })
	r := receive(t, l.Asked(), "a request")
	require.Equal(t, "please", r.Reason)
	stillWaiting(t, asked, 100*time.Millisecond)
	release(t, l)
	granted(t, asked)
	f.waitForKeys("lock\x00ask", 0)
}

func TestNestedHoldsAndStripedLocks(t *testing.T) {
	f := newFixture(t)
	var c counter
	s := f.session(f.client(c.options()...), 5*time.Second)
	m := etcdlock.NewStriped(s, "stripes", 16).For("orders/42")
	require.Equal(t, "stripes/15", m.Name())
	l, err := m.Lock(f.ctx())
	require.NoError(t, err)
	var n *etcdlock.Lock
	require.Empty(t, c.during(func() { n, err = m.Lock(l.Context()) }))
	require.NoError(t, err)
	require.Empty(t, c.during(func() { release(t, l) }))
	require.Len(t, f.keys("stripes/15"), 1)
	require.Equal(t, oneTxn, c.during(func() { release(t, n) }))
	require.Empty(t, f.keys("stripes/15"))
}
