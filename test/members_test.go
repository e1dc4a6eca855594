package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// contenders are a holder and two waiters in a known order.
type contenders struct {
	holder  *etcdlock.Lock
	session *etcdlock.Session // the holder's
	waiting []<-chan outcome[*etcdlock.Lock]
}

func (f *fixture) contend(ttl time.Duration) *contenders {
	f.t.Helper()
	s := f.session(f.client(), ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
	require.NoError(f.t, err)
	c := &contenders{holder: l, session: s}
	for i := range 2 {
		c.waiting = append(c.waiting, lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), ttl), "lock")))
		f.waitForKeys("lock", i+2)
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
		stillWaiting(t, w, 50*time.Millisecond)
		release(t, held)
		held = granted(t, w).handle
		require.Greater(t, held.Token(), token, "waiter %d", i)
		token = held.Token()
	}
	release(t, held)
}

func TestAHoldAndAPlaceInLineSurviveARollingRestart(t *testing.T) {
	f := newFixture(t)
	c := f.contend(3 * time.Second)
	lease, keys := c.session.Lease(), f.keys("lock")
	for i := range f.size {
		f.stop(i)
		f.renewed(c.holder.Deadline)
		f.restart(i)
		require.Equal(t, keys, f.keys("lock"))
	}
	require.Equal(t, lease, c.session.Lease())
	c.assertAllInOrder(t)
}

func TestAHoldAndAPlaceInLineSurviveTheDeathOfTheRaftLeader(t *testing.T) {
	f := newFixture(t)
	c := f.contend(3 * time.Second)
	leader := f.cluster.WaitLeader(t)
	f.stop(leader)
	f.renewed(c.holder.Deadline)
	f.renewed(c.holder.Deadline)
	f.restart(leader)
	c.assertAllInOrder(t)
}

func TestAHoldAndAPlaceInLineSurviveARestartOfTheWholeClusterWithinTheTTL(t *testing.T) {
	f := newFixture(t)
	c := f.contend(5 * time.Second)
	f.stopAll()
	select {
	case <-c.holder.Done():
		require.FailNow(t, "lost at once", "%v", c.holder.Err())
	case <-time.After(500 * time.Millisecond): // away for a while
	}
	f.restartAll()
	f.renewed(c.holder.Deadline)
	c.assertAllInOrder(t)
}

// trap C9
func TestAWholeClusterAwayBeyondTheTTLEndsTheHoldAndTheWaitAndSessionsGoOn(t *testing.T) {
	f := newFixture(t)
	c := f.contend(2 * time.Second)
	lease := c.session.Lease()
	ended := momentOf(c.holder.Done())
	f.stopAll()
	deadline := c.holder.Deadline()
	end := receive(t, ended, "the end of the hold")
	require.WithinDuration(t, deadline, end, 500*time.Millisecond, "told at its deadline")
	assertLost(t, c.holder.Err(), etcdlock.ErrExpired)
	for _, w := range c.waiting {
		assertLost(t, receive(t, w, "a waiter's end").err, etcdlock.ErrExpired)
	}
	require.Equal(t, etcdlock.Lost, c.session.State())

	f.restartAll()
	l, err := etcdlock.NewMutex(c.session, "lock").Lock(f.within(15 * time.Second))
	require.NoError(t, err)
	require.NotEqual(t, lease, c.session.Lease())
	require.Greater(t, l.Token(), c.holder.Token())
	require.Equal(t, etcdlock.Connected, c.session.State())
	release(t, l)
	f.patience = 5 * time.Second // the restarted server gives old leases their full TTL
}

func TestNoLockIsGrantedTwiceWhileMembersComeAndGo(t *testing.T) {
	f := newFixture(t)
	f.put("counter", "0")
	stop := make(chan struct{})
	var h history
	var workers []func() error
	counts := make(chan int, 4)
	for range 4 {
		s := f.session(f.client(), 3*time.Second)
		workers = append(workers, func() error {
			n := 0
			defer func() { counts <- n }()
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				l, err := etcdlock.NewMutex(s, "lock").Lock(f.ctx())
				if err != nil {
					return err
				}
				end := h.begin(l.Context(), s, l.Token())
				n++
				end()
				if err := l.Unlock(f.ctx()); err != nil {
					return err
				}
			}
		})
	}
	workers = append(workers, func() error {
		defer close(stop)
		for i := range f.size {
			f.cluster.Members[i].Stop(t)
			time.Sleep(200 * time.Millisecond) // the weather, not a wait
			if err := f.cluster.Members[i].Restart(t); err != nil {
				return err
			}
			f.cluster.Members[i].WaitOK(t)
		}
		return nil
	})
	all(t, workers...)
	h.assertExclusive(t)
	total := 0
	for range 4 {
		total += <-counts
	}
	t.Logf("figure: %d locks while members came and went", total)
}
