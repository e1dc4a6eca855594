package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// An administrator's means: revoke a lease, or delete a key.
func revokeLease(f *fixture, s *etcdlock.Session, _ string) { f.revoke(s.Lease()) }
func deleteKey(f *fixture, s *etcdlock.Session, name string) {
	f.delete(name + "/" + etcdHex(s.Lease()))
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
			s := f.session(f.client(), 3*time.Second)
			m := etcdlock.NewMutex(s, "lock")
			l, err := m.Lock(f.ctx())
			require.NoError(t, err)
			time.Sleep(after)
			next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
			f.waitForKeys("lock", 2)

			start, told := time.Now(), momentOf(l.Done())
			c.end(f, s, "lock")
			second := granted(t, next)
			at := receive(t, told, "the end of the hold")
			t.Logf("figure: %s after %v: told after %v", c.name, after, at.Sub(start))
			require.Less(t, at.Sub(start), time.Second, "%s, told late", c.name)
			assertLost(t, l.Err(), c.reason)
			assertLost(t, context.Cause(l.Context()), c.reason)
			assertLost(t, l.Unlock(f.ctx()), c.reason)
			require.Less(t, time.Until(l.Deadline()), time.Duration(0))
			require.NoError(t, second.handle.Err())
			release(t, second.handle)

			again, err := m.Lock(f.ctx()) // trap C9
			require.NoError(t, err)
			require.Greater(t, again.Token(), second.handle.Token())
			release(t, again)
			require.NoError(t, s.Close(f.ctx()))
		}
	}
}

// trap A5, A6
func TestAWaiterIsToldWhatAnAdministratorDid(t *testing.T) {
	f := newFixture(t)
	for _, c := range endings {
		holder, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock").Lock(f.ctx())
		require.NoError(t, err)
		s := f.session(f.client(), 3*time.Second)
		m := etcdlock.NewMutex(s, "lock")
		waiting := lockInBackground(f.ctx(), m)
		f.waitForKeys("lock", 2)
		stillWaiting(t, waiting, 400*time.Millisecond)

		start := time.Now()
		c.end(f, s, "lock")
		out := receive(t, waiting, "the end of the wait")
		t.Logf("figure: waiter %s: told after %v", c.name, out.at.Sub(start))
		assertLost(t, out.err, c.reason)
		require.Less(t, out.at.Sub(start), 1500*time.Millisecond)
		require.NoError(t, holder.Err())
		f.waitForKeys("lock", 1)
		release(t, holder)
		l, err := m.Lock(f.ctx())
		require.NoError(t, err)
		release(t, l)
	}
}

// The wait ends by its own key's death and the holder's release at once: never by
// a grant.
// trap A6, B1
func TestAWaiterWhoseKeyWasDeletedTogetherWithTheHoldersIsNotGranted(t *testing.T) {
	f := newFixture(t)
	for range 5 {
		holder := f.session(f.client(), 3*time.Second)
		l, err := etcdlock.NewMutex(holder, "lock").Lock(f.ctx())
		require.NoError(t, err)
		s := f.session(f.client(), 3*time.Second)
		waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(s, "lock"))
		f.waitForKeys("lock", 2)
		_, err = f.admin.Delete(f.ctx(), "lock/", clientv3.WithPrefix())
		require.NoError(t, err)
		assertLost(t, receive(t, waiting, "the end of the wait").err, etcdlock.ErrEvicted)
		receive(t, l.Done(), "the end of the hold")
		assertLost(t, l.Err(), etcdlock.ErrEvicted)
		require.NoError(t, s.Close(f.ctx()))
		require.NoError(t, holder.Close(f.ctx()))
	}
}

func TestAnElectionsTermEndsWithAnEviction(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	e := etcdlock.NewElection(s, "election")
	term, err := e.Campaign(f.ctx(), "a")
	require.NoError(t, err)
	f.delete(term.Key())
	receive(t, term.Done(), "the end of the term")
	assertLost(t, term.Err(), etcdlock.ErrEvicted)
	assertLost(t, term.Proclaim(f.ctx(), "x"), etcdlock.ErrEvicted)
	require.Empty(t, f.keys("election"), "Proclaim wrote the key again")
	assertLost(t, term.Resign(f.ctx()), etcdlock.ErrEvicted)
	require.Equal(t, etcdlock.Connected, s.State(), "the lease lives on")
}

// trap A7
func TestAPlaceInLineSurvivesCompactionsAndCutWatches(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock").Lock(f.ctx())
	require.NoError(t, err)
	client, proxy := f.proxied()
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(client, 10*time.Second), "lock"))
	f.waitForKeys("lock", 2)
	younger := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
	f.waitForKeys("lock", 3)
	keys := f.keys("lock")

	compact := func() {
		t.Helper()
		for range 5 {
			f.put("noise", "x")
		}
		_, err := f.admin.Compact(f.ctx(), f.revision(), clientv3.WithCompactPhysical())
		require.NoError(t, err)
	}
	compact() // under a watch that stands
	stillWaiting(t, waiting, 100*time.Millisecond)
	proxy.Refuse()
	proxy.Drop()
	compact() // while there is no watch; the holder goes meanwhile
	proxy.Resume()
	stillWaiting(t, waiting, 100*time.Millisecond)
	require.Equal(t, keys, f.keys("lock"), "places changed")
	proxy.Refuse()
	proxy.Drop()
	release(t, holder)
	compact() // and the delete that the watch should have told of is gone, too
	proxy.Resume()
	first := granted(t, waiting)
	stillWaiting(t, younger, 50*time.Millisecond)
	release(t, first.handle)
	release(t, granted(t, younger).handle)
}
