package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// trap C2
func TestTheContextGivenToNewSessionBoundsItsCreationOnly(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.Ctx())
	s, err := etcdlock.NewSession(ctx, f.Client(), etcdlock.WithTTL(6*time.Second))
	require.NoError(t, err)
	f.CloseAtEnd(s)
	lease := s.Lease()
	cancel()
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	f.Renewed(l.Deadline)
	f.Renewed(l.Deadline)
	require.NoError(t, l.Err())
	require.Equal(t, lease, s.Lease())
	cluster.Release(t, l)
}

// trap C6
func TestATTLBelowTheServersMinimumIsRefusedAndLeavesNothing(t *testing.T) {
	ticks := integration.ElectionTicks
	t.Cleanup(func() { integration.ElectionTicks = ticks })
	integration.ElectionTicks = 100 // of 10 ms: the server's minimum is then 2 s
	f := newFixtureOf(t, &integration.ClusterConfig{Size: 1, UseBridge: true})
	client := f.Client()
	_, err := etcdlock.NewSession(f.Ctx(), client, etcdlock.WithTTL(time.Second))
	require.ErrorIs(t, err, etcdlock.ErrInvalidTTL)
	require.ErrorContains(t, err, "2s", "it names the minimum")
	f.AssertClean()

	for _, ttl := range []time.Duration{-time.Second, 1500 * time.Millisecond, time.Millisecond} {
		_, err = etcdlock.NewSession(f.Ctx(), client, etcdlock.WithTTL(ttl))
		require.ErrorIs(t, err, etcdlock.ErrInvalidTTL, "%v", ttl)
	}
	_, err = etcdlock.NewSession(f.Ctx(), nil)
	require.ErrorIs(t, err, etcdlock.ErrNilClient)
	require.Equal(t, 2*time.Second, f.Session(client, 2*time.Second).TTL())
}

// trap C7
func TestASessionOnADeadLeaseIsRefused(t *testing.T) {
	f := newFixture(t)
	lease, err := f.Admin.Grant(f.Ctx(), 10)
	require.NoError(t, err)
	f.Revoke(lease.ID)
	for _, id := range []clientv3.LeaseID{lease.ID, 4711} {
		_, err = etcdlock.NewSession(f.Ctx(), f.Client(), etcdlock.WithLease(id))
		require.ErrorIs(t, err, etcdlock.ErrLeaseNotFound)
	}
}

// trap C5
func TestALeaseLeftBehindIsTakenOverByTheNextProcessWithItsPlace(t *testing.T) {
	f := newFixture(t)
	const ttl = 6 * time.Second
	first := f.Session(f.Client(), ttl)
	l, err := etcdlock.NewMutex(first, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	stranger := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)

	id, err := first.Orphan(f.Ctx())
	require.NoError(t, err)
	cluster.Receive(t, l.Done(), "the end of the hold")
	cluster.AssertLost(t, l.Err(), etcdlock.ErrOrphaned)
	cluster.Receive(t, first.Done(), "the end of the session")
	_, err = etcdlock.NewMutex(first, "other").Lock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)

	second, err := etcdlock.NewSession(f.Ctx(), f.Client(), etcdlock.WithLease(id))
	require.NoError(t, err)
	f.CloseAtEnd(second)
	require.Equal(t, id, second.Lease())
	require.Equal(t, ttl, second.TTL())
	again, err := etcdlock.NewMutex(second, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, l.Key(), again.Key())
	require.Greater(t, again.Token(), l.Token(), "another process: the token must grow")
	f.Renewed(again.Deadline)
	cluster.StillWaiting(t, stranger, 50*time.Millisecond)
	cluster.Release(t, again)
	cluster.Release(t, cluster.Granted(t, stranger).Handle)
}

func TestCloseReleasesEverythingAtOnce(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	other, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "busy").Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "busy"))
	f.WaitForKeys("busy", 2)
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)

	start := time.Now()
	require.NoError(t, s.Close(f.Ctx()))
	second := cluster.Granted(t, next)
	require.Less(t, second.At.Sub(start), 20*time.Second, "not by the lease's expiry")
	require.ErrorIs(t, l.Err(), etcdlock.ErrSessionClosed)
	require.ErrorIs(t, cluster.Receive(t, waiting, "the waiter's end").Err, etcdlock.ErrSessionClosed)
	require.ErrorIs(t, s.Err(), etcdlock.ErrSessionClosed)
	require.Equal(t, etcdlock.StateClosed, s.State())
	require.EqualValues(t, clientv3.NoLease, s.Lease())
	require.Error(t, l.Unlock(f.Ctx()))
	m := etcdlock.NewMutex(s, "lock")
	_, err = m.Lock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	_, err = m.TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	_, err = etcdlock.NewElection(s, "election").Campaign(f.Ctx(), "x")
	require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
	cluster.Release(t, second.Handle)
	cluster.Release(t, other)
	// A member lists the leases that it knows of, which may be a moment behind.
	require.Eventually(t, func() bool { return len(f.Left()) == 2 }, cluster.Long, 10*time.Millisecond,
		"there are the leases of the two other sessions, and more: %v", f.Left())
}

// trap C9
func TestAWatcherOfTheStatesSeesALossAndTheNewLease(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.Proxied()
	s := f.Session(client, 4*time.Second)
	states := make(chan etcdlock.State, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for state := range s.States(f.Ctx()) {
			states <- state
		}
	}()
	require.Equal(t, etcdlock.StateConnected, cluster.Receive(t, states, "the present state"))
	lease := s.Lease()

	proxy.Refuse()
	proxy.Drop()
	require.Equal(t, etcdlock.StateSuspended, cluster.Receive(t, states, "a state"))
	require.Equal(t, lease, s.Lease(), "suspended is not lost")
	require.Equal(t, etcdlock.StateLost, cluster.Receive(t, states, "a state"))
	require.EqualValues(t, clientv3.NoLease, s.Lease())
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "lock"))
	cluster.StillWaiting(t, waiting, 100*time.Millisecond) // without a lease it waits for the new one

	proxy.Resume()
	require.Equal(t, etcdlock.StateConnected, cluster.Receive(t, states, "a state"))
	cluster.Release(t, cluster.Granted(t, waiting).Handle)
	require.NotEqual(t, lease, s.Lease())
	require.NoError(t, s.Close(f.Ctx()))
	require.Equal(t, etcdlock.StateClosed, cluster.Receive(t, states, "a state"))
	cluster.Receive(t, ended, "the end of the states")
	f.Patience = 4*time.Second + cluster.ExpirySlack
}

func TestAClientThatIsClosedUnderTheSessionEndsItWithThatCause(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	client := f.Client()
	s := f.Session(client, ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	other, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "busy").Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "busy"))
	f.WaitForKeys("busy", 2)

	require.NoError(t, client.Close())
	cluster.Receive(t, l.Done(), "the end of the hold")
	cluster.AssertLost(t, l.Err(), etcdlock.ErrClientClosed)
	require.ErrorIs(t, cluster.Receive(t, waiting, "the waiter's end").Err, etcdlock.ErrClientClosed)
	cluster.Receive(t, s.Done(), "the end of the session")
	require.ErrorIs(t, s.Err(), etcdlock.ErrClientClosed)
	require.ErrorIs(t, s.Err(), etcdlock.ErrSessionClosed)
	_, err = etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrClientClosed)
	cluster.AssertLost(t, l.Unlock(f.Ctx()), etcdlock.ErrClientClosed)
	cluster.Release(t, other)
	f.Patience = ttl + cluster.ExpirySlack + time.Second // nothing but the lease's expiry can clean up
}
