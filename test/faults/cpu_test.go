package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// cpu is what this process has used so far.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// No busy loop. The bounds are generous, for machines under load; a loop without
// a pause would use a core.
func TestASessionIsQuietWhileEtcdIsAway(t *testing.T) {
	f := newFixture(t)
	share := f.quiet(0, 1, 2)
	require.Less(t, share, 0.10)
}

func TestASessionIsQuietWhileThereIsNoRaftLeader(t *testing.T) {
	f := newFixture(t)
	share := f.quiet(0, 1)
	require.Less(t, share, 0.30, "with a member that looks for a raft leader all the time")
}

// quiet measures what a holding and a waiting session do while members are
// stopped: the share of one core, and keepalive requests per second.
func (f *fixture) quiet(stopped ...int) (share float64) {
	t := f.t
	t.Helper()
	var c cluster.Counter
	client := f.Client(c.Options()...)
	const ttl = 15 * time.Second
	s := f.Session(client, ttl)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(client, ttl), "lock"))
	f.WaitForKeys("lock", 2)

	for _, i := range stopped {
		f.Stop(i)
	}
	// Only with renewals that are not answered there is anything that could
	// become a busy loop.
	before := c.KeepAlives()
	require.Eventually(t, func() bool { return c.KeepAlives() > before }, ttl/2, 10*time.Millisecond)

	const during = 3 * time.Second
	used, sent := cpu(t), c.KeepAlives()
	time.Sleep(during)
	share = float64(cpu(t)-used) / float64(during)
	rate := float64(c.KeepAlives()-sent) / during.Seconds()
	t.Logf("figure: %d of 3 members stopped: %.1f %% of one core, %.1f keepalive requests/s of two sessions",
		len(stopped), share*100, rate)
	require.NoError(t, l.Err(), "within the TTL")
	require.Positive(t, rate, "renewals are not tried again")
	require.Less(t, rate, 10.0)

	for _, i := range stopped {
		require.NoError(t, f.Cluster.Members[i].Restart(t))
	}
	f.Cluster.WaitLeader(t)
	_ = l.Unlock(f.Ctx()) // it may have been lost meanwhile
	if o := cluster.Receive(t, waiting, "the end of the wait"); o.Err == nil {
		cluster.Release(t, o.Handle)
	} else {
		cluster.AssertLost(t, o.Err, etcdlock.ErrExpired)
	}
	f.Patience = ttl // a new raft leader gives leases their full TTL again
	return share
}
