package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func TestTheQueueListsTheHolderAndThenTheWaitersInOrder(t *testing.T) {
	f := newFixture(t)
	start := time.Now().Add(-time.Second)
	holder := etcdlock.NewMutex(f.session(f.client(), 3*time.Second, etcdlock.WithOwner("session")), "lock")
	l, err := holder.Lock(f.ctx())
	require.NoError(t, err)

	var waiting []<-chan outcome[*etcdlock.Lock]
	var sessions []*etcdlock.Session
	for i, owner := range []string{"b", "c", "a"} {
		s := f.session(f.client(), 3*time.Second, etcdlock.WithOwner("overridden"))
		sessions = append(sessions, s)
		waiting = append(waiting, lockInBackground(f.ctx(), etcdlock.NewMutex(s, "lock", etcdlock.WithOwner(owner))))
		f.waitForKeys("lock", i+2)
	}
	entries, err := holder.Queue(f.ctx())
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
			require.Equal(t, "lock/"+etcdHex(e.Lease), e.Key)
		}
	}
	release(t, l)
	for _, w := range waiting {
		release(t, granted(t, w).handle)
	}
	entries, err = holder.Queue(f.ctx())
	require.NoError(t, err)
	require.Empty(t, entries)
}

// trap A15
func TestAStrayKeyWithoutALeaseBlocksAndIsListed(t *testing.T) {
	f := newFixture(t)
	created := f.put("lock/stray", "left here by hand")
	m := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock")

	_, err := m.TryLock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	waiting := lockInBackground(f.ctx(), m)
	f.waitForKeys("lock", 2)
	stillWaiting(t, waiting, 300*time.Millisecond)

	entries, err := m.Queue(f.ctx())
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "lock/stray", entries[0].Key)
	require.EqualValues(t, clientv3.NoLease, entries[0].Lease)
	require.Equal(t, created, entries[0].CreateRevision)
	require.Equal(t, "left here by hand", string(entries[0].Value))
	require.Empty(t, entries[0].Owner)

	f.delete("lock/stray")
	l := granted(t, waiting).handle
	require.Greater(t, l.Token(), created)
	release(t, l)
}

// A stray key that is younger is behind us, and no reason to wait.
func TestAYoungerStrayKeyDoesNotBlockTheHolder(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock").Lock(f.ctx())
	require.NoError(t, err)
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
	f.waitForKeys("lock", 2)
	f.put("lock/stray", "younger")
	release(t, holder)
	release(t, granted(t, waiting).handle)
	f.delete("lock/stray")
}

// trap A14
func TestALockInsideAnotherOnesNameIsAnErrorThatNamesBoth(t *testing.T) {
	f := newFixture(t)
	inner, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "a/b").Lock(f.ctx())
	require.NoError(t, err)

	outer := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "a")
	_, err = outer.Lock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrNestedName)
	require.ErrorContains(t, err, `"a"`)
	require.ErrorContains(t, err, `"a/b"`)
	f.waitForKeys("a", 1)
	_, err = etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "a").TryLock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrNestedName)
	_, err = etcdlock.NewElection(f.session(f.client(), 3*time.Second), "a").Campaign(f.ctx(), "x")
	require.ErrorIs(t, err, etcdlock.ErrNestedName)

	f.waitForKeys("a", 1)
	require.NoError(t, inner.Err())
	release(t, inner)
	l, err := outer.Lock(f.ctx())
	require.NoError(t, err)
	release(t, l)
}

// trap A14
func TestNamesThatCouldShareKeysWithOthersAreRefused(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	revision := f.revision()
	for _, name := range []string{"", "/", "a/", "a//b", "a\x00b"} {
		m := etcdlock.NewMutex(s, name)
		_, err := m.Lock(f.ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = m.TryLock(f.ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = m.Queue(f.ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = etcdlock.NewElection(s, name).Campaign(f.ctx(), "x")
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
		_, err = etcdlock.NewElection(s, name).Leader(f.ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "%q", name)
	}
	require.Equal(t, revision, f.revision(), "something was written")
}

func TestNamesNextToEachOtherDoNotTouch(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	var held []*etcdlock.Lock
	for _, name := range []string{"a", "a0", "a.", "a-", "ab", "/a", "aa/b"} {
		l, err := etcdlock.NewMutex(s, name).Lock(f.within(2 * time.Second))
		require.NoError(t, err, name)
		held = append(held, l)
	}
	for _, l := range held {
		release(t, l)
	}
}
