package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// contenders are a holder and two waiters in a known order.
type contenders struct {
	holder  *etcdlock.Lock
	session *etcdlock.Session // the holder's
	waiting []<-chan cluster.Outcome[*etcdlock.Lock]
}

func (f *fixture) contend(ttl time.Duration) *contenders {
	f.t.Helper()
	s := f.Session(f.Client(), ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(f.t, err)
	c := &contenders{holder: l, session: s}
	for i := range 2 {
		c.waiting = append(c.waiting, cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), ttl), "lock")))
		f.WaitForKeys("lock", i+2)
	}
	return c
}

// assertAllInOrder asserts that the hold survived, and that the waiters kept
// their places.
func (c *contenders) assertAllInOrder(t *testing.T) {
	t.Helper()
	require.NoError(t, c.holder.Err(), "the hold was lost")
	token := c.holder.Token()
	held := c.holder
	for i, w := range c.waiting {
		cluster.StillWaiting(t, w, 50*time.Millisecond)
		cluster.Release(t, held)
		held = cluster.Granted(t, w).Handle
		require.Greater(t, held.Token(), token, "waiter %d", i)
		token = held.Token()
	}
	cluster.Release(t, held)
}

func TestAHoldAndAPlaceInLineSurviveARollingRestart(t *testing.T) {
	f := newFixture(t)
	c := f.contend(6 * time.Second)
	lease, keys := c.session.Lease(), f.Keys("lock")
	for i := range f.Size {
		f.Stop(i)
		f.Renewed(c.holder.Deadline)
		f.Restart(i)
		require.Equal(t, keys, f.Keys("lock"))
	}
	require.Equal(t, lease, c.session.Lease())
	c.assertAllInOrder(t)
}

func TestAHoldAndAPlaceInLineSurviveTheDeathOfTheRaftLeader(t *testing.T) {
	f := newFixture(t)
	c := f.contend(6 * time.Second)
	leader := f.Cluster.WaitLeader(t)
	f.Stop(leader)
	f.Renewed(c.holder.Deadline)
	f.Renewed(c.holder.Deadline)
	f.Restart(leader)
	c.assertAllInOrder(t)
}

func TestAHoldAndAPlaceInLineSurviveARestartOfTheWholeClusterWithinTheTTL(t *testing.T) {
	f := newFixture(t)
	c := f.contend(15 * time.Second)
	f.StopAll()
	select {
	case <-c.holder.Done():
		require.FailNow(t, "lost at once", "%v", c.holder.Err())
	case <-time.After(500 * time.Millisecond): // away for a while
	}
	f.RestartAll()
	f.Renewed(c.holder.Deadline)
	c.assertAllInOrder(t)
}

// trap C9
func TestAWholeClusterAwayBeyondTheTTLEndsTheHoldAndTheWaitAndSessionsGoOn(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	c := f.contend(ttl)
	lease := c.session.Lease()
	ended := cluster.MomentOf(c.holder.Done())
	before := c.holder.Deadline()
	f.StopAll()
	stopped := time.Now()
	end := cluster.Receive(t, ended, "the end of the hold")
	require.False(t, end.Before(before), "told before its deadline")
	require.Less(t, end.Sub(stopped), ttl+5*time.Second, "told at its deadline")
	cluster.AssertLost(t, c.holder.Err(), etcdlock.ErrExpired)
	for _, w := range c.waiting {
		cluster.AssertLost(t, cluster.Receive(t, w, "a waiter's end").Err, etcdlock.ErrExpired)
	}
	require.Equal(t, etcdlock.StateLost, c.session.State())

	f.RestartAll()
	l, err := etcdlock.NewMutex(c.session, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	require.NotEqual(t, lease, c.session.Lease())
	require.Greater(t, l.Token(), c.holder.Token())
	for state := range c.session.States(f.Ctx()) { // suspended, if a renewal is late after the restart
		if state == etcdlock.StateConnected {
			break
		}
		require.Equal(t, etcdlock.StateSuspended, state)
	}
	require.NoError(t, f.Ctx().Err())
	cluster.Release(t, l)
	f.Patience = ttl + cluster.ExpirySlack // the restarted server gives old leases their full TTL
}

func TestNoLockIsGrantedTwiceWhileMembersComeAndGo(t *testing.T) {
	f := newFixture(t)
	f.Put("counter", "0")
	stop := make(chan struct{})
	var h cluster.History
	var workers []func() error
	counts := make(chan int, 4)
	for range 4 {
		s := f.Session(f.Client(), cluster.LongTTL)
		workers = append(workers, func() error {
			n := 0
			defer func() { counts <- n }()
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
				if err != nil {
					return err
				}
				end := h.Begin(l.Err, s, l.Token())
				n++
				end()
				if err := l.Unlock(f.Ctx()); err != nil {
					return err
				}
			}
		})
	}
	workers = append(workers, func() error {
		defer close(stop)
		for i := range f.Size {
			f.Cluster.Members[i].Stop(t)
			time.Sleep(200 * time.Millisecond) // the weather, not a wait
			if err := f.Cluster.Members[i].Restart(t); err != nil {
				return err
			}
			f.Cluster.Members[i].WaitOK(t)
		}
		return nil
	})
	cluster.All(t, workers...)
	h.AssertExclusive(t)
	total := 0
	for range 4 {
		total += <-counts
	}
	t.Logf("figure: %d locks while members came and went", total)
}
