package elections

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestTheLockOfAKilledProcessGoesToTheNextOneAfterItsTTL(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.Start(cluster.HolderSettings{Lock: "lock", TTL: ttl})
	first := h.Next("held")
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	cluster.StillWaiting(t, next, 300*time.Millisecond)

	killed := time.Now()
	h.Signal(syscall.SIGKILL)
	second := cluster.Granted(t, next)
	t.Logf("figure: TTL %v: held again %v after kill -9", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), ttl+cluster.ExpirySlack)
	require.Greater(t, second.Handle.Token(), first.Token)
	cluster.Release(t, second.Handle)
}

func TestAnotherProcessLeadsAfterTheLeaderWasKilled(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	a := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl})
	first := a.Next("held")
	b := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl})
	f.WaitForKeys("election", 2)
	leaders, _ := f.Observe(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"))
	require.NotEqual(t, cluster.Vacancy, cluster.NextValue(t, leaders))

	killed := time.Now()
	a.Signal(syscall.SIGKILL)
	second := b.Next("held")
	t.Logf("figure: TTL %v: next leader %v after kill -9", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), ttl+cluster.ExpirySlack)
	require.Greater(t, second.Token, first.Token)
	require.NotEqual(t, cluster.Vacancy, cluster.NextValue(t, leaders))
	b.Quit()
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
}

// Guarantee and non-guarantee in one: the stopped process could not be told in
// time; when it goes on it is told at once, and what it writes is refused.
func TestAProcessThatWasStoppedBeyondItsTTLIsToldAndItsLateWriteIsRefused(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.Start(cluster.HolderSettings{Lock: "lock", TTL: ttl, Resource: "resource"})
	f.Put("resource", "early")
	first := h.Next("held")
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)

	h.Signal(syscall.SIGSTOP)
	second := cluster.Granted(t, next)
	require.Greater(t, second.Handle.Token(), first.Token)
	continued := time.Now()
	h.Signal(syscall.SIGCONT)
	lost := h.Next("lost")
	t.Logf("figure: told %v after SIGCONT", lost.At.Sub(continued))
	require.True(t, lost.Expired, lost.Error)
	require.True(t, lost.Refused, "the late write went through")
	require.Less(t, lost.At.Sub(continued), 5*time.Second)
	require.Less(t, lost.Token, second.Handle.Token())
	require.Equal(t, "early", f.Get("resource"))
	require.NoError(t, second.Handle.Err())
	cluster.Release(t, second.Handle)
	h.Quit()
}

func TestAProcessThatEndsInOrderLeavesTheLockAtOnce(t *testing.T) {
	f := newFixture(t)
	h := f.Start(cluster.HolderSettings{Lock: "lock", TTL: cluster.LongTTL})
	h.Next("held")
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	start := time.Now()
	h.Quit()
	second := cluster.Granted(t, next)
	require.Less(t, second.At.Sub(start), 20*time.Second, "not by the lease's expiry")
	cluster.Release(t, second.Handle)
}
