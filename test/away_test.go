package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// bounded fails if a call did not keep to its context.
func bounded(t *testing.T, limit time.Duration, call func() error) {
	t.Helper()
	start := time.Now()
	require.ErrorIs(t, call(), context.DeadlineExceeded)
	require.Less(t, time.Since(start), limit+500*time.Millisecond)
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
		client, proxy := f.proxied()
		away(proxy)
		const limit = 400 * time.Millisecond
		bounded(t, limit, func() error {
			s, err := etcdlock.NewSession(f.within(limit), client, etcdlock.WithTTL(2*time.Second))
			require.Nil(t, s, name)
			return err
		})
		proxy.Resume()
		s := f.session(client, 2*time.Second)
		require.NoError(t, s.Close(f.ctx()))
	}
	// A grant that went out may have taken effect: it has nobody to renew it.
	f.patience = 2*time.Second + expirySlack + 2*time.Second
}

// trap A12
func TestEverythingKeepsToItsContextWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	const limit = 300 * time.Millisecond
	for name, away := range unreachable {
		t.Log(name)
		client, proxy := f.proxied()
		s := f.session(client, 10*time.Second)
		lease := s.Lease()
		busy, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "busy").Lock(f.ctx())
		require.NoError(t, err)
		inLine := lockInBackground(f.within(1500*time.Millisecond), etcdlock.NewMutex(s, "busy"))
		f.waitForKeys("busy", 2)
		e := etcdlock.NewElection(s, "led")
		term, err := e.Campaign(f.ctx(), "a")
		require.NoError(t, err)

		away(proxy)
		free, try := etcdlock.NewMutex(s, "free"), etcdlock.NewMutex(s, "try")
		bounded(t, limit, func() error { _, err := free.Lock(f.within(limit)); return err })
		bounded(t, limit, func() error { _, err := try.TryLock(f.within(limit)); return err })
		bounded(t, limit, func() error { _, err := free.Queue(f.within(limit)); return err })
		bounded(t, limit, func() error { _, err := e.Leader(f.within(limit)); return err })
		bounded(t, limit, func() error { return term.Proclaim(f.within(limit), "b") })
		require.ErrorIs(t, receive(t, inLine, "the end of the wait").err, context.DeadlineExceeded)
		require.NoError(t, term.Err())

		proxy.Resume()
		f.waitForKeys("busy", 1)
		f.waitForKeys("free", 0)
		f.waitForKeys("try", 0)
		require.NoError(t, term.Resign(f.ctx()))
		require.Equal(t, lease, s.Lease())
		release(t, busy)
		require.NoError(t, s.Close(f.ctx()))
	}
}

// trap A10
func TestAnUnlockWithoutAConnectionIsMadeUpForWhenItIsBack(t *testing.T) {
	f := newFixture(t)
	for name, away := range unreachable {
		t.Log(name)
		client, proxy := f.proxied()
		s := f.session(client, 10*time.Second)
		lease := s.Lease()
		m := etcdlock.NewMutex(s, "lock")
		l, err := m.Lock(f.ctx())
		require.NoError(t, err)
		next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
		f.waitForKeys("lock", 2)

		away(proxy)
		const limit = 300 * time.Millisecond
		bounded(t, limit, func() error { return l.Unlock(f.within(limit)) })
		require.ErrorIs(t, l.Err(), etcdlock.ErrReleased, "locally it is over at once")
		require.ErrorIs(t, context.Cause(l.Context()), etcdlock.ErrReleased)
		stillWaiting(t, next, 100*time.Millisecond)

		back := time.Now()
		proxy.Resume()
		second := granted(t, next)
		t.Logf("figure: %s: released %v after etcd was back", name, second.at.Sub(back))
		require.Equal(t, lease, s.Lease(), "by the delete, not by the lease's end")
		release(t, second.handle)
		again, err := m.Lock(f.ctx())
		require.NoError(t, err)
		require.Greater(t, again.Token(), second.handle.Token())
		release(t, again)
		require.NoError(t, s.Close(f.ctx()))
	}
}

// trap C15
func TestCloseKeepsToItsContextWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	for name, away := range unreachable {
		client, proxy := f.proxied()
		s := f.session(client, ttl)
		l, err := etcdlock.NewMutex(s, name).Lock(f.ctx())
		require.NoError(t, err)
		away(proxy)
		const limit = 300 * time.Millisecond
		bounded(t, limit, func() error { return s.Close(f.within(limit)) })
		receive(t, s.Done(), "the end of the session")
		require.ErrorIs(t, l.Err(), etcdlock.ErrSessionClosed)
	}
	f.patience = ttl + expirySlack // nothing but the lease's expiry can clean up
}

// The request arrived and took effect, its answer did not come back.
// trap A4, B2
func TestAnEnqueueWhoseAnswerWasLostLeavesNoPhantomInLine(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.proxied()
	s := f.session(client, 10*time.Second)
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
			proxy.Hold(faultproxy.ToClient)
			const limit = 300 * time.Millisecond
			bounded(t, limit, func() error { return call(f.within(limit)) })
			require.Len(t, f.keys("name"), 1, "%s: the enqueue was not committed, this shows nothing", kind)
			back := time.Now()
			ending()
			f.waitForKeys("name", 0)
			t.Logf("figure: %s, %s: gone %v after etcd was back", kind, what, time.Since(back))
			require.Equal(t, lease, s.Lease(), "by a delete, not by the lease's end")
			l, err := etcdlock.NewMutex(s, "name").Lock(f.ctx())
			require.NoError(t, err)
			release(t, l)
		}
	}
}

// The request was held up on its way, and arrives when its caller has long given
// up. Deleting at once would come before it.
// trap A4
func TestAnEnqueueThatArrivesAfterItsCallerGaveUpLeavesNoPhantomInLine(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.proxied()
	s := f.session(client, 10*time.Second)
	lease := s.Lease()
	for range 3 {
		proxy.Hold(faultproxy.ToServer)
		const limit = 200 * time.Millisecond
		bounded(t, limit, func() error {
			_, err := etcdlock.NewMutex(s, "lock").Lock(f.within(limit))
			return err
		})
		require.Empty(t, f.keys("lock"))
		before := f.revision()
		proxy.Resume()
		// It is there and gone again, or was never there.
		require.Eventually(t, func() bool {
			l, err := etcdlock.NewMutex(f.session(f.client(), 2*time.Second), "lock").TryLock(f.ctx())
			if err != nil {
				return false
			}
			release(t, l)
			return len(f.keys("lock")) == 0
		}, 5*time.Second, 50*time.Millisecond)
		t.Logf("%d writes since", f.revision()-before)
		require.Equal(t, lease, s.Lease())
		l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
		require.NoError(t, err)
		release(t, l)
	}
}
