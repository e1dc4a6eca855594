package mixed

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// The examples in etcd's documentation are written with a slash at the end: NewMutex(s,
// "/my-lock/"), etcdctl lock /my-lock/. Their keys have two.
func TestALockWithASlashAtItsEndIsSharedWithThem(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		w := newWorld(t)
		name := w.name("my-lock/")
		s := w.session(w.client(), etcdlock.WithForeignNames())
		m := etcdlock.NewMutex(s, name)

		l, err := m.Lock(w.ctx())
		require.NoError(t, err)
		require.Equal(t, w.name("my-lock//")+etcdHex(s.Lease()), l.Key())
		next := start(w.ctx(), k.lock(w, name))
		w.waitForKeys(name, 2)
		w.waits(next, waitABit)
		require.NoError(t, l.Unlock(w.ctx()))
		they := w.granted(next)
		require.Equal(t, w.name("my-lock//")+etcdHex(they.lease), they.key)
		require.Greater(t, they.token, l.Token())
		_, err = m.TryLock(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)

		// trap A14: without the slash it is another lock, around this one.
		_, err = etcdlock.NewMutex(w.session(w.client()), w.name("my-lock")).TryLock(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrNestedName)
		require.ErrorContains(t, err, name)
		_, err = etcdlock.NewMutex(w.session(w.client()), name).TryLock(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrInvalidName, "it has to be asked for")
		w.release(they)

		leads := w.must(k.elect(w, name, "theirs"))
		leader, err := etcdlock.NewElection(s, name).Leader(w.ctx())
		require.NoError(t, err)
		require.Equal(t, "theirs", leader.Value)
		w.release(leads)
	})
}
