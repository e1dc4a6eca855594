package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// An administrator's means: revoke a lease, or delete a key.
func revokeLease(f *fixture, s *etcdlock.Session, _ string) { f.Revoke(s.Lease()) }
func deleteKey(f *fixture, s *etcdlock.Session, name string) {
	f.Delete(name + "/" + cluster.Hex(s.Lease()))
}

// ending is what happens to a hold or a wait, and what its owner is told.
type ending struct {
	name   string
	end    func(*fixture, *etcdlock.Session, string)
	reason error
}

var endings = []ending{
	{"revoked", revokeLease, etcdlock.ErrRevoked},
	{"evicted", deleteKey, etcdlock.ErrEvicted},
}

// trap A9, A11, C5, C12
func TestAHolderIsToldWhatAnAdministratorDid(t *testing.T) {
	f := newFixture(t)
	for _, c := range endings {
		for _, after := range []time.Duration{0, 500 * time.Millisecond} { // a fresh and a settled hold
			s := f.Session(f.Client(), cluster.LongTTL)
			m := etcdlock.NewMutex(s, "lock")
			l, err := m.Lock(f.Ctx())
			require.NoError(t, err)
			time.Sleep(after)
			next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
			f.WaitForKeys("lock", 2)

			start, told := time.Now(), cluster.MomentOf(l.Done())
			c.end(f, s, "lock")
			second := cluster.Granted(t, next)
			at := cluster.Receive(t, told, "the end of the hold")
			t.Logf("figure: %s after %v: told after %v", c.name, after, at.Sub(start))
			require.Less(t, at.Sub(start), 10*time.Second, "%s, told late", c.name)
			cluster.AssertLost(t, l.Err(), c.reason)
			cluster.AssertLost(t, context.Cause(l.Context()), c.reason)
			cluster.AssertLost(t, l.Unlock(f.Ctx()), c.reason)
			require.Less(t, time.Until(l.Deadline()), time.Duration(0))
			require.NoError(t, second.Handle.Err())
			cluster.Release(t, second.Handle)

			again, err := m.Lock(f.Ctx()) // trap C9
			require.NoError(t, err)
			require.Greater(t, again.Token(), second.Handle.Token())
			cluster.Release(t, again)
			require.NoError(t, s.Close(f.Ctx()))
		}
	}
}

// trap A5, A6
func TestAWaiterIsToldWhatAnAdministratorDid(t *testing.T) {
	f := newFixture(t)
	for _, c := range endings {
		holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
		require.NoError(t, err)
		s := f.Session(f.Client(), cluster.LongTTL)
		m := etcdlock.NewMutex(s, "lock")
		waiting := cluster.LockInBackground(f.Ctx(), m)
		f.WaitForKeys("lock", 2)
		cluster.StillWaiting(t, waiting, 400*time.Millisecond)

		start := time.Now()
		c.end(f, s, "lock")
		out := cluster.Receive(t, waiting, "the end of the wait")
		t.Logf("figure: waiter %s: told after %v", c.name, out.At.Sub(start))
		cluster.AssertLost(t, out.Err, c.reason)
		require.Less(t, out.At.Sub(start), 10*time.Second)
		require.NoError(t, holder.Err())
		f.WaitForKeys("lock", 1)
		cluster.Release(t, holder)
		l, err := m.Lock(f.Ctx())
		require.NoError(t, err)
		cluster.Release(t, l)
	}
}

// The wait ends by its own key's death and the holder's release at once: never by
// a grant.
// trap A6, B1
func TestAWaiterWhoseKeyWasDeletedTogetherWithTheHoldersIsNotGranted(t *testing.T) {
	f := newFixture(t)
	for range 5 {
		holder := f.Session(f.Client(), cluster.LongTTL)
		l, err := etcdlock.NewMutex(holder, "lock").Lock(f.Ctx())
		require.NoError(t, err)
		s := f.Session(f.Client(), cluster.LongTTL)
		waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "lock"))
		f.WaitForKeys("lock", 2)
		_, err = f.Admin.Delete(f.Ctx(), "lock/", clientv3.WithPrefix())
		require.NoError(t, err)
		cluster.AssertLost(t, cluster.Receive(t, waiting, "the end of the wait").Err, etcdlock.ErrEvicted)
		cluster.Receive(t, l.Done(), "the end of the hold")
		cluster.AssertLost(t, l.Err(), etcdlock.ErrEvicted)
		require.NoError(t, s.Close(f.Ctx()))
		require.NoError(t, holder.Close(f.Ctx()))
	}
}

func TestAnElectionsTermEndsWithAnEviction(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	e := etcdlock.NewElection(s, "election")
	term, err := e.Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	f.Delete(term.Key())
	cluster.Receive(t, term.Done(), "the end of the term")
	cluster.AssertLost(t, term.Err(), etcdlock.ErrEvicted)
	cluster.AssertLost(t, term.Proclaim(f.Ctx(), "x"), etcdlock.ErrEvicted)
	require.Empty(t, f.Keys("election"), "Proclaim wrote the key again")
	cluster.AssertLost(t, term.Resign(f.Ctx()), etcdlock.ErrEvicted)
	require.NotZero(t, s.Lease(), "the lease lives on")
}

// trap A7
func TestAPlaceInLineSurvivesCompactionsAndCutWatches(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	client, proxy := f.Proxied()
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(client, cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	younger := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 3)
	keys := f.Keys("lock")

	compact := func() {
		t.Helper()
		for range 5 {
			f.Put("noise", "x")
		}
		_, err := f.Admin.Compact(f.Ctx(), f.Revision(), clientv3.WithCompactPhysical())
		require.NoError(t, err)
	}
	compact() // under a watch that stands
	cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	proxy.Refuse()
	proxy.Drop()
	compact() // while there is no watch; the holder goes meanwhile
	proxy.Resume()
	cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	require.Equal(t, keys, f.Keys("lock"), "places changed")
	proxy.Refuse()
	proxy.Drop()
	cluster.Release(t, holder)
	compact() // and the delete that the watch should have told of is gone, too
	proxy.Resume()
	first := cluster.Granted(t, waiting)
	cluster.StillWaiting(t, younger, 50*time.Millisecond)
	cluster.Release(t, first.Handle)
	cluster.Release(t, cluster.Granted(t, younger).Handle)
}
