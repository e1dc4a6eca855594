package locks

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestTheQueueListsTheHolderAndThenTheWaitersInOrder(t *testing.T) {
	f := newFixture(t)
	start := time.Now().Add(-time.Second)
	holder := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL, etcdlock.WithOwner("session")), "lock")
	l, err := holder.Lock(f.Ctx())
	require.NoError(t, err)

	var waiting []<-chan cluster.Outcome[*etcdlock.Lock]
	var sessions []*etcdlock.Session
	for i, owner := range []string{"b", "c", "a"} {
		s := f.Session(f.Client(), cluster.LongTTL, etcdlock.WithOwner("overridden"))
		sessions = append(sessions, s)
		waiting = append(waiting, cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "lock", etcdlock.WithOwner(owner))))
		f.WaitForKeys("lock", i+2)
	}
	entries, err := holder.Queue(f.Ctx())
	require.NoError(t, err)
	require.Len(t, entries, 4)
	require.Equal(t, l.Key(), entries[0].Key)
	require.Equal(t, l.Token(), entries[0].CreateRevision, "it entered at once")
	for i, owner := range []string{"session", "b", "c", "a"} {
		e := entries[i]
		require.Equal(t, owner, e.Owner)
		require.WithinRange(t, e.Since, start, time.Now().Add(time.Second))
		require.NotEmpty(t, e.Value)
		if i > 0 {
			require.Greater(t, e.CreateRevision, entries[i-1].CreateRevision)
			require.Equal(t, sessions[i-1].Lease(), e.Lease)
			require.Equal(t, "lock/"+cluster.Hex(e.Lease), e.Key)
		}
	}
	cluster.Release(t, l)
	for _, w := range waiting {
		cluster.Release(t, cluster.Granted(t, w).Handle)
	}
	entries, err = holder.Queue(f.Ctx())
	require.NoError(t, err)
	require.Empty(t, entries)
}

// trap A15
func TestAStrayKeyWithoutALeaseBlocksAndIsListed(t *testing.T) {
	f := newFixture(t)
	created := f.Put("lock/stray", "left here by hand")
	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")

	_, err := m.TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	waiting := cluster.LockInBackground(f.Ctx(), m)
	f.WaitForKeys("lock", 2)
	cluster.StillWaiting(t, waiting, 300*time.Millisecond)

	entries, err := m.Queue(f.Ctx())
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "lock/stray", entries[0].Key)
	require.EqualValues(t, clientv3.NoLease, entries[0].Lease)
	require.Equal(t, created, entries[0].CreateRevision)
	require.Equal(t, "left here by hand", string(entries[0].Value))
	require.Empty(t, entries[0].Owner)

	f.Delete("lock/stray")
	l := cluster.Granted(t, waiting).Handle
	require.Greater(t, l.Token(), created)
	cluster.Release(t, l)
}

// A stray key that is younger is behind us, and no reason to wait.
func TestAYoungerStrayKeyDoesNotBlockTheHolder(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	f.Put("lock/stray", "younger")
	cluster.Release(t, holder)
	cluster.Release(t, cluster.Granted(t, waiting).Handle)
	f.Delete("lock/stray")
}

// trap A14
func TestALockInsideAnotherOnesNameIsAnErrorThatNamesBoth(t *testing.T) {
	f := newFixture(t)
	inner, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "a/b").Lock(f.Ctx())
	require.NoError(t, err)

	outer := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "a")
	_, err = outer.Lock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrNestedName)
	require.ErrorContains(t, err, `"a"`)
	require.ErrorContains(t, err, `"a/b"`)
	f.WaitForKeys("a", 1)
	_, err = etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "a").TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrNestedName)
	_, err = etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "a").Campaign(f.Ctx(), "x")
	require.ErrorIs(t, err, etcdlock.ErrNestedName)

	f.WaitForKeys("a", 1)
	require.NoError(t, inner.Err())
	cluster.Release(t, inner)
	l, err := outer.Lock(f.Ctx())
	require.NoError(t, err)
	cluster.Release(t, l)
}

// trap A14
func TestNamesThatCouldShareKeysWithOthersAreRefused(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	revision := f.Revision()
	for _, name := range []string{"", "/", "a/", "a//b", "a\x00b"} {
		m := etcdlock.NewMutex(s, name)
		_, err := m.Lock(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = m.TryLock(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = m.Queue(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = etcdlock.NewElection(s, name).Campaign(f.Ctx(), "x")
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = etcdlock.NewElection(s, name).Leader(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
	}
	require.Equal(t, revision, f.Revision(), "something was written")
}

func TestNamesNextToEachOtherDoNotTouch(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	var held []*etcdlock.Lock
	for _, name := range []string{"a", "a0", "a.", "a-", "ab", "/a", "aa/b"} {
		l, err := etcdlock.NewMutex(s, name).Lock(f.Ctx())
		require.NoError(t, err, name)
		held = append(held, l)
	}
	for _, l := range held {
		cluster.Release(t, l)
	}
}
