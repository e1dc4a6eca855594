package locks

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestEightProcessesLockRandomSetsWhileSomeAreKilled(t *testing.T) {
	f := newFixture(t)
	const killed, ttl = 2, 5 * time.Second // of those that are killed the lease expires
	f.Patience = ttl + cluster.ExpirySlack
	names := []string{"a", "b", "c", "d", "e", "f"}
	var processes []*cluster.Holder
	for i := range 8 {
		settings := cluster.HolderSettings{Crossing: names, TTL: cluster.LongTTL}
		if i < killed {
			settings.TTL = ttl
		}
		processes = append(processes, f.Start(settings))
	}
	var mu sync.Mutex
	var sets []cluster.Report
	through := 0
	var all sync.WaitGroup
	for i, p := range processes {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case r := <-p.Reports:
					mu.Lock()
					if r.Event == "through" {
						through++
						mu.Unlock()
						return
					}
					sets = append(sets, r)
					mu.Unlock()
					if r.Event != "set" {
						t.Errorf("process %d: %+v", i, r)
						return
					}
				case <-time.After(cluster.Long):
					t.Errorf("process %d is stuck after %d sets", i, n)
					return
				}
				if i < killed && n == 3 {
					if err := p.Kill(); err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 8-killed, through)
	slices.SortFunc(sets, func(a, b cluster.Report) int { return a.Since.Compare(b.Since) })
	for _, name := range names {
		var last cluster.Report
		for _, r := range sets {
			if !slices.Contains(r.Names, name) {
				continue
			}
			require.False(t, r.Since.Before(last.At), "%q is held by two: %+v, %+v", name, last, r)
			require.Greater(t, r.Token, last.Token, "%q", name)
			last = r
		}
	}
	t.Logf("figure: %d sets by 8 processes, %d of them killed", len(sets), killed)
}

func TestTheRoundTripsOfLockAll(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), cluster.LongTTL)
	other := f.Session(f.Client(), cluster.LongTTL)
	var set *etcdlock.LockSet
	var err error
	c.Costs(t, cluster.OneTxn, func() { set, err = etcdlock.NewMultiMutex(s, []string{"x", "y", "z"}).Lock(f.Ctx()) }, "free")
	require.NoError(t, err)
	c.Costs(t, cluster.OneTxn, func() { err = set.Unlock(f.Ctx()) }, "unlock")
	require.NoError(t, err)
	held, err := etcdlock.NewMultiMutex(other, []string{"z", "x"}).Lock(f.Ctx())
	require.NoError(t, err)
	before := f.Revision()
	c.Costs(t, cluster.OneTxn, func() { _, err = etcdlock.NewMultiMutex(s, []string{"y", "x"}).TryLock(f.Ctx()) }, "refused")
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.Revision(), "something was written")
	wait := cluster.InLine(2)
	wait.Unary = append(wait.Unary, cluster.OneTxn.Unary...) // the proof, at one revision
	c.Costs(t, wait, func() {
		waiting := cluster.InBackground(func() (*etcdlock.LockSet, error) {
			return etcdlock.NewMultiMutex(s, []string{"x", "y", "z"}).Lock(f.Ctx())
		})
		f.WaitForKeys("x", 2)
		cluster.StillWaiting(t, waiting, 100*time.Millisecond)
		require.NoError(t, held.Unlock(f.Ctx()))
		set = cluster.Granted(t, waiting).Handle
	}, "three names, two of them taken")
	require.NoError(t, set.Unlock(f.Ctx()))
}

func TestAnEtcdThatAllowsFewOperationsTellsHowManyNamesAreTooMany(t *testing.T) {
	f := newFixtureOf(t, &integration.ClusterConfig{Size: 1, UseBridge: true, MaxTxnOps: 8})
	s := f.Session(f.Client(), cluster.LongTTL)
	_, err := etcdlock.NewMultiMutex(s, []string{"1", "2", "3", "4", "5"}).Lock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrTooManyNames)
	set, err := etcdlock.NewMultiMutex(s, []string{"1", "2", "3", "4"}).Lock(f.Ctx())
	require.NoError(t, err)
	require.NoError(t, set.Unlock(f.Ctx()))
}

func TestSixtyFourNamesAreWithinTheDefaultLimits(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	var names []string
	for i := range 64 {
		names = append(names, string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	set, err := etcdlock.NewMultiMutex(s, names).Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.InBackground(func() (*etcdlock.LockSet, error) { return etcdlock.NewMultiMutex(s, names).Lock(f.Ctx()) })
	f.WaitForKeys("63", 2)
	_, err = etcdlock.NewMultiMutex(s, names).TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.NoError(t, set.Unlock(f.Ctx()))
	require.NoError(t, cluster.Granted(t, waiting).Handle.Unlock(f.Ctx()))
	set, err = etcdlock.NewMultiMutex(s, names).TryLock(f.Ctx())
	require.NoError(t, err)
	require.NoError(t, set.Unlock(f.Ctx()))
}
