package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
)

// trap C2
func TestTheContextGivenToNewSessionBoundsItsCreationOnly(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx())
	s, err := etcdlock.NewSession(ctx, f.client(), etcdlock.WithTTL(time.Second))
	require.NoError(t, err)
	f.closeAtEnd(s)
	lease := s.Lease()
	cancel()
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.NoError(t, err)
	f.renewed(l.Deadline)
	f.renewed(l.Deadline)
	require.NoError(t, l.Err())
	require.Equal(t, lease, s.Lease())
	release(t, l)
}

// trap C6
func TestATTLBelowTheServersMinimumIsRefusedAndLeavesNothing(t *testing.T) {
	ticks := integration.ElectionTicks
	t.Cleanup(func() { integration.ElectionTicks = ticks })
	integration.ElectionTicks = 100 // of 10 ms: the server's minimum is then 2 s
	f := newFixtureOf(t, &integration.ClusterConfig{Size: 1, UseBridge: true})
	client := f.client()
	_, err := etcdlock.NewSession(f.ctx(), client, etcdlock.WithTTL(time.Second))
	require.ErrorIs(t, err, etcdlock.ErrInvalidTTL)
	require.ErrorContains(t, err, "2s", "it names the minimum")
	f.assertClean()

	for _, ttl := range []time.Duration{-time.Second, 1500 * time.Millisecond, time.Millisecond} {
		_, err = etcdlock.NewSession(f.ctx(), client, etcdlock.WithTTL(ttl))
		require.ErrorIs(t, err, etcdlock.ErrInvalidTTL, "%v", ttl)
	}
	_, err = etcdlock.NewSession(f.ctx(), nil)
	require.ErrorIs(t, err, etcdlock.ErrNilClient)
	require.Equal(t, 2*time.Second, f.session(client, 2*time.Second).TTL())
}

// trap C7
func TestASessionOnADeadLeaseIsRefused(t *testing.T) {
	f := newFixture(t)
	lease, err := f.admin.Grant(f.ctx(), 10)
	require.NoError(t, err)
	f.revoke(lease.ID)
	for _, id := range []clientv3.LeaseID{lease.ID, 4711} {
		_, err = etcdlock.NewSession(f.ctx(), f.client(), etcdlock.WithLease(id))
		require.ErrorIs(t, err, etcdlock.ErrLeaseNotFound)
	}
}

// trap C5
func TestALeaseLeftBehindIsTakenOverByTheNextProcessWithItsPlace(t *testing.T) {
	f := newFixture(t)
	first := f.session(f.client(), 3*time.Second)
	l, err := etcdlock.NewMutex(first, "lock").Lock(f.ctx())
	require.NoError(t, err)
	stranger := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
	f.waitForKeys("lock", 2)

	id, err := first.Orphan(f.ctx())
	require.NoError(t, err)
	receive(t, l.Done(), "the end of the hold")
	assertLost(t, l.Err(), etcdlock.ErrOrphaned)
	receive(t, first.Done(), "the end of the session")
	_, err = etcdlock.NewMutex(first, "other").Lock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)

	second, err := etcdlock.NewSession(f.ctx(), f.client(), etcdlock.WithLease(id))
	require.NoError(t, err)
	f.closeAtEnd(second)
	require.Equal(t, id, second.Lease())
	require.Equal(t, 3*time.Second, second.TTL())
	again, err := etcdlock.NewMutex(second, "lock").Lock(f.within(2 * time.Second))
	require.NoError(t, err)
	require.Equal(t, l.Key(), again.Key())
	require.Greater(t, again.Token(), l.Token(), "another process: the token must grow")
	f.renewed(again.Deadline)
	stillWaiting(t, stranger, 50*time.Millisecond)
	release(t, again)
	release(t, granted(t, stranger).handle)
}

func TestCloseReleasesEverythingAtOnce(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 10*time.Second)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.NoError(t, err)
	other, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "busy").Lock(f.ctx())
	require.NoError(t, err)
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(s, "busy"))
	f.waitForKeys("busy", 2)
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
	f.waitForKeys("lock", 2)

	start := time.Now()
	require.NoError(t, s.Close(f.ctx()))
	second := granted(t, next)
	require.Less(t, second.at.Sub(start), 2*time.Second, "not by the lease's expiry")
	require.ErrorIs(t, l.Err(), etcdlock.ErrSessionClosed)
	require.ErrorIs(t, receive(t, waiting, "the waiter's end").err, etcdlock.ErrSessionClosed)
	require.ErrorIs(t, s.Err(), etcdlock.ErrSessionClosed)
	require.Equal(t, etcdlock.Closed, s.State())
	require.EqualValues(t, clientv3.NoLease, s.Lease())
	require.Error(t, l.Unlock(f.ctx()))
	m := etcdlock.NewMutex(s, "lock")
	_, err = m.Lock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	_, err = m.TryLock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	_, err = etcdlock.NewElection(s, "election").Campaign(f.ctx(), "x")
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	release(t, second.handle)
	release(t, other)
	// A member lists the leases that it knows of, which may be a moment behind.
	require.Eventually(t, func() bool { return len(f.left()) == 2 }, time.Second, 10*time.Millisecond,
		"there are the leases of the two other sessions, and more: %v", f.left())
}

// trap C9
func TestAWatcherOfTheStatesSeesALossAndTheNewLease(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.proxied()
	s := f.session(client, 2*time.Second)
	states := make(chan etcdlock.State, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for state := range s.States(f.ctx()) {
			states <- state
		}
	}()
	require.Equal(t, etcdlock.Connected, receive(t, states, "the present state"))
	lease := s.Lease()

	proxy.Refuse()
	proxy.Drop()
	require.Equal(t, etcdlock.Suspended, receive(t, states, "a state"))
	require.Equal(t, lease, s.Lease(), "suspended is not lost")
	require.Equal(t, etcdlock.Lost, receive(t, states, "a state"))
	require.EqualValues(t, clientv3.NoLease, s.Lease())
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(s, "lock"))
	stillWaiting(t, waiting, 100*time.Millisecond) // without a lease it waits for the new one

	proxy.Resume()
	require.Equal(t, etcdlock.Connected, receive(t, states, "a state"))
	release(t, granted(t, waiting).handle)
	require.NotEqual(t, lease, s.Lease())
	require.NoError(t, s.Close(f.ctx()))
	require.Equal(t, etcdlock.Closed, receive(t, states, "a state"))
	receive(t, ended, "the end of the states")
	f.patience = 4 * time.Second
}

func TestAClientThatIsClosedUnderTheSessionEndsItWithThatCause(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	client := f.client()
	s := f.session(client, ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.NoError(t, err)
	other, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "busy").Lock(f.ctx())
	require.NoError(t, err)
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(s, "busy"))
	f.waitForKeys("busy", 2)

	require.NoError(t, client.Close())
	receive(t, l.Done(), "the end of the hold")
	assertLost(t, l.Err(), etcdlock.ErrClientClosed)
	require.ErrorIs(t, receive(t, waiting, "the waiter's end").err, etcdlock.ErrClientClosed)
	receive(t, s.Done(), "the end of the session")
	require.ErrorIs(t, s.Err(), etcdlock.ErrClientClosed)
	require.ErrorIs(t, s.Err(), etcdlock.ErrSessionClosed)
	_, err = etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrClientClosed)
	assertLost(t, l.Unlock(f.within(time.Second)), etcdlock.ErrClientClosed)
	release(t, other)
	f.patience = ttl + expirySlack + time.Second // nothing but the lease's expiry can clean up
}
