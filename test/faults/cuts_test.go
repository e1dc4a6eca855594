package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestAHoldAndAPlaceInLineSurviveDroppedConnections(t *testing.T) {
	f := newFixture(t)
	c := f.contend(6 * time.Second)
	for range 2 {
		for _, m := range f.Cluster.Members {
			m.Bridge().PauseConnections()
			m.Bridge().DropConnections()
		}
		time.Sleep(200 * time.Millisecond) // the outage, well within the TTL
		for _, m := range f.Cluster.Members {
			m.Bridge().UnpauseConnections()
		}
		f.Renewed(c.holder.Deadline)
	}
	c.assertAllInOrder(t)
}

// One of three members swallows all that is sent to it. Renewals and waits that
// hang there must not cost the lease.
func TestAHoldAndAPlaceInLineSurviveABlackHoleInFrontOfOneMember(t *testing.T) {
	f := newFixture(t)
	c := f.contend(6 * time.Second)
	for i := range f.Size - 1 {
		bridge := f.Cluster.Members[i].Bridge()
		bridge.Blackhole()
		f.Renewed(c.holder.Deadline)
		f.Renewed(c.holder.Deadline)
		bridge.Unblackhole()
	}
	c.assertAllInOrder(t)
}

// cut is what can be done to a holder.
type cut struct {
	*faultproxy.Proxy
	lock    *etcdlock.Lock
	lease   clientv3.LeaseID
	counter *cluster.Counter
}

// overlap is one run of the question that matters most: a holder is cut off in
// some way; was it told before the next one held?
func (f *fixture) overlap(ttl time.Duration, off func(cut)) {
	f.t.Helper()
	var c cluster.Counter
	client, proxy := f.Proxied(c.Options()...)
	s := f.Session(client, ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(f.t, err)
	next := cluster.LockAfter(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"), l)
	f.WaitForKeys("lock", 2)

	ended := cluster.MomentOf(l.Done())
	off(cut{proxy, l, s.Lease(), &c})
	start, deadline := time.Now(), l.Deadline()
	second := cluster.Granted(f.t, next)
	end := cluster.Receive(f.t, ended, "the end of the hold")
	f.t.Logf("figure: overlap %v, handover %v after the cut", end.Sub(second.At), second.At.Sub(start))
	cluster.AssertEndedAt(f.t, deadline, end)
	require.Less(f.t, second.At.Sub(start), ttl+cluster.ExpirySlack, "the next one waited too long")
	require.Greater(f.t, second.Handle.Token(), l.Token())
	cluster.AssertLost(f.t, l.Err(), etcdlock.ErrExpired)
	// The lease that its session asks for meanwhile may be granted after the session was closed.
	f.Patience = max(f.Patience, ttl+cluster.ExpirySlack)
	proxy.Resume()
	cluster.AssertLost(f.t, l.Unlock(f.Ctx()), etcdlock.ErrExpired) // trap A9
	require.NoError(f.t, second.Handle.Err(), "the unlock of the lost hold hit the next one")
	cluster.Release(f.t, second.Handle)
}

// trap A11
func TestAHolderThatIsCutOffIsToldBeforeTheNextOneHolds(t *testing.T) {
	newFixture(t).overlap(3*time.Second, func(c cut) { c.Hold() })
}

func TestAHolderWhoseRequestsAreLostIsToldBeforeTheNextOneHolds(t *testing.T) {
	newFixture(t).overlap(3*time.Second, func(c cut) { c.Hold(faultproxy.ToServer) })
}

// Its renewals arrive and prolong the lease in etcd, but it does not hear so: it
// has to give up, and the next one holds when it has stopped renewing.
func TestAHolderWhoseAnswersAreLostIsToldInTimeToo(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	client, proxy := f.Proxied()
	s := f.Session(client, ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	next := cluster.LockAfter(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"), l)
	f.WaitForKeys("lock", 2)

	ended := cluster.MomentOf(l.Done())
	proxy.Hold(faultproxy.ToClient)
	deadline := l.Deadline()
	end := cluster.Receive(t, ended, "the end of the hold")
	cluster.AssertEndedAt(t, deadline, end)
	cluster.AssertLost(t, l.Err(), etcdlock.ErrExpired)
	second := cluster.Granted(t, next)
	t.Logf("figure: told %v before the next one held", second.At.Sub(end))
	require.Less(t, second.At.Sub(end), ttl+cluster.ExpirySlack, "the lost lease was renewed on")
	cluster.Release(t, second.Handle)
	proxy.Resume()
}

// The worst of all for a session that counts from the receipt of the answer: the
// last renewal that etcd gets is answered late, but in time to be believed.
// trap C4
func TestARenewalAnsweredLateAndThenSilenceLeaveNoOverlap(t *testing.T) {
	const (
		ttl  = 6 * time.Second
		late = 2 * time.Second
	)
	f := newFixture(t)
	f.overlap(ttl, func(c cut) {
		before, sent := c.lock.Deadline(), c.counter.KeepAlives()
		c.Hold(faultproxy.ToClient)
		require.Eventually(t, func() bool { return c.counter.KeepAlives() > sent }, ttl, time.Millisecond)
		require.Eventually(t, func() bool { // the renewal has come to etcd
			left, err := f.Admin.TimeToLive(f.Ctx(), c.lease)
			return err == nil && left.TTL >= int64(ttl/time.Second)-1
		}, ttl, time.Millisecond)
		c.Hold(faultproxy.ToServer)
		time.Sleep(late)
		require.NoError(t, c.lock.Err(), "lost on a slow answer")
		c.Release(faultproxy.ToClient)
		require.Eventually(t, func() bool { return c.lock.Deadline().After(before.Add(100 * time.Millisecond)) },
			ttl-late, time.Millisecond, "the late answer did not count at all, this shows nothing")
		c.Hold()
		assert.Less(t, time.Until(c.lock.Deadline()), ttl-late)
	})
}

// Before the first renewal was answered the deadline comes from the grant.
// trap C3
func TestANewSessionThatIsCutOffAtOnceLeavesNoOverlap(t *testing.T) {
	newFixture(t).overlap(3*time.Second, func(c cut) {
		c.Hold()
		require.Less(t, time.Until(c.lock.Deadline()), 3*time.Second)
	})
}

// The grant's answer is late: the deadline counts from when it was sent.
// trap C3
func TestALateGrantIsCountedFromItsSending(t *testing.T) {
	f := newFixture(t)
	client, proxy := f.Proxied()
	_, err := client.Get(f.Ctx(), "warm up")
	require.NoError(t, err)
	const late = 700 * time.Millisecond // below the bound of a first try
	proxy.Delay(faultproxy.ToClient, late)
	s := f.Session(client, 6*time.Second)
	got := time.Now()
	proxy.Delay(faultproxy.ToClient, 0)
	l, err := etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
	require.NoError(t, err)
	require.Less(t, l.Deadline().Sub(got), 6*time.Second-late)
	cluster.Release(t, l)
}
