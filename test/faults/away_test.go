package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// bounded fails if a call did not keep to its context.
func bounded(t *testing.T, limit time.Duration, call func() error) {
	t.Helper()
	start := time.Now()
	require.ErrorIs(t, call(), context.DeadlineExceeded)
	require.Less(t, time.Since(start), limit+10*time.Second)
}

// unreachable are the two ways in which etcd can be away.
var unreachable = map[string]func(*faultproxy.Proxy){
	"refused": func(p *faultproxy.Proxy) { p.Refuse(); p.Drop() },
	"silent":  func(p *faultproxy.Proxy) { p.Hold() },
}

// trap C1
func TestASessionIsNotCreatedBeyondItsContextWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	for name, away := range unreachable {
		client, proxy := f.Proxied()
		away(proxy)
		const limit = 400 * time.Millisecond
		bounded(t, limit, func() error {
			s, err := etcdlock.NewSession(f.Within(limit), client, etcdlock.WithTTL(2*time.Second))
			require.Nil(t, s, name)
			return err
		})
		proxy.Resume()
		s := f.Session(client, 2*time.Second)
		require.NoError(t, s.Close(f.Ctx()))
	}
	// A grant that was sent may have taken effect, and no session renews its lease.
	f.Patience = 2*time.Second + cluster.ExpirySlack + 2*time.Second
}

// trap A12
func TestEverythingKeepsToItsContextWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	const limit = 300 * time.Millisecond
	for name, away := range unreachable {
		t.Log(name)
		client, proxy := f.Proxied()
		s := f.Session(client, cluster.LongTTL)
		lease := s.Lease()
		busy, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "busy").Lock(f.Ctx())
		require.NoError(t, err)
		inLine := cluster.LockInBackground(f.Within(4*time.Second), etcdlock.NewMutex(s, "busy"))
		f.WaitForKeys("busy", 2)
		e := etcdlock.NewElection(s, "led")
		term, err := e.Campaign(f.Ctx(), "a")
		require.NoError(t, err)

		away(proxy)
		free, try := etcdlock.NewMutex(s, "free"), etcdlock.NewMutex(s, "try")
		bounded(t, limit, func() error { _, err := free.Lock(f.Within(limit)); return err })
		bounded(t, limit, func() error { _, err := try.TryLock(f.Within(limit)); return err })
		bounded(t, limit, func() error { _, err := free.Queue(f.Within(limit)); return err })
		bounded(t, limit, func() error { _, err := e.Leader(f.Within(limit)); return err })
		bounded(t, limit, func() error { return term.Proclaim(f.Within(limit), "b") })
		require.ErrorIs(t, cluster.Receive(t, inLine, "the end of the wait").Err, context.DeadlineExceeded)
		require.NoError(t, term.Err())

		proxy.Resume()
		f.WaitForKeys("busy", 1)
		f.WaitForKeys("free", 0)
		f.WaitForKeys("try", 0)
		require.NoError(t, term.Resign(f.Ctx()))
		require.Equal(t, lease, s.Lease())
		cluster.Release(t, busy)
		require.NoError(t, s.Close(f.Ctx()))
	}
}

// trap A10
func TestAnUnlockWithoutAConnectionIsMadeUpForWhenItIsBack(t *testing.T) {
	f := newFixture(t)
	for name, away := range unreachable {
		t.Log(name)
		client, proxy := f.Proxied()
		s := f.Session(client, cluster.LongTTL)
		lease := s.Lease()
		m := etcdlock.NewMutex(s, "lock")
		l, err := m.Lock(f.Ctx())
		require.NoError(t, err)
		next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
		f.WaitForKeys("lock", 2)

		away(proxy)
		const limit = 300 * time.Millisecond
		bounded(t, limit, func() error { return l.Unlock(f.Within(limit)) })
		require.ErrorIs(t, l.Err(), etcdlock.ErrReleased, "locally it is over at once")
		require.ErrorIs(t, context.Cause(l.Context()), etcdlock.ErrReleased)
		cluster.StillWaiting(t, next, 100*time.Millisecond)

		back := time.Now()
		proxy.Resume()
		second := cluster.Granted(t, next)
		t.Logf("figure: %s: released %v after etcd was back", name, second.At.Sub(back))
		require.Equal(t, lease, s.Lease(), "by the delete, not by the lease's end")
		cluster.Release(t, second.Handle)
		again, err := m.Lock(f.Ctx())
		require.NoError(t, err)
		require.Greater(t, again.Token(), second.Handle.Token())
		cluster.Release(t, again)
		require.NoError(t, s.Close(f.Ctx()))
	}
}

// trap C15
func TestCloseKeepsToItsContextWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	for name, away := range unreachable {
		client, proxy := f.Proxied()
		s := f.Session(client, ttl)
		l, err := etcdlock.NewMutex(s, name).Lock(f.Ctx())
		require.NoError(t, err)
		away(proxy)
		const limit = 300 * time.Millisecond
		bounded(t, limit, func() error { return s.Close(f.Within(limit)) })
		cluster.Receive(t, s.Done(), "the end of the session")
		require.ErrorIs(t, l.Err(), etcdlock.ErrSessionClosed)
	}
	f.Patience = ttl + cluster.ExpirySlack // nothing but the lease's expiry can clean up
}

// The request arrived and took effect, its answer did not come back.
// trap A4, B2
func TestAnEnqueueWhoseAnswerWasLostLeavesNoPhantomInLine(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.Proxied()
	s := f.Session(client, cluster.LongTTL)
	lease := s.Lease()
	enter := map[string]func(context.Context) error{
		"lock": func(ctx context.Context) error { _, err := etcdlock.NewMutex(s, "name").Lock(ctx); return err },
		"try":  func(ctx context.Context) error { _, err := etcdlock.NewMutex(s, "name").TryLock(ctx); return err },
		"campaign": func(ctx context.Context) error {
			_, err := etcdlock.NewElection(s, "name").Campaign(ctx, "x")
			return err
		},
	}
	lost := map[string]func(){
		"the answer is late": func() { proxy.Resume() },
		"the answer is lost": func() { proxy.Drop(); proxy.Resume() },
	}
	for kind, call := range enter {
		for what, ending := range lost {
			written := f.Admin.Watch(f.Ctx(), "name/", clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
			cluster.Receive(t, written, "the watch")
			proxy.Hold(faultproxy.ToClient)
			const limit = 300 * time.Millisecond
			bounded(t, limit, func() error { return call(f.Within(limit)) })
			cluster.Receive(t, written, kind+": the write; without it this shows nothing")
			back := time.Now()
			ending()
			f.WaitForKeys("name", 0)
			t.Logf("figure: %s, %s: gone %v after etcd was back", kind, what, time.Since(back))
			require.Equal(t, lease, s.Lease(), "by a delete, not by the lease's end")
			l, err := etcdlock.NewMutex(s, "name").Lock(f.Ctx())
			require.NoError(t, err)
			cluster.Release(t, l)
		}
	}
}

// The request was held up on its way, and arrives when its caller has long given
// up. Deleting at once would come before it.
// trap A4
func TestAnEnqueueThatArrivesAfterItsCallerGaveUpLeavesNoPhantomInLine(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.Proxied()
	s := f.Session(client, cluster.LongTTL)
	lease := s.Lease()
	for range 3 {
		proxy.Hold(faultproxy.ToServer)
		const limit = 200 * time.Millisecond
		bounded(t, limit, func() error {
			_, err := etcdlock.NewMutex(s, "lock").Lock(f.Within(limit))
			return err
		})
		require.Empty(t, f.Keys("lock"))
		before := f.Revision()
		proxy.Resume()
		// It is there and gone again, or was never there.
		require.Eventually(t, func() bool {
			l, err := etcdlock.NewMutex(f.Session(f.Client(), 2*time.Second), "lock").TryLock(f.Ctx())
			if err != nil {
				return false
			}
			cluster.Release(t, l)
			return len(f.Keys("lock")) == 0
		}, cluster.Long, 50*time.Millisecond)
		t.Logf("%d writes since", f.Revision()-before)
		require.Equal(t, lease, s.Lease())
		l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
		require.NoError(t, err)
		cluster.Release(t, l)
	}
}
