package mixed

import (
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// Several readers and permits hold at one time. A lock of another library does not know them: it waits
// for all of them, and keeps all of them out.
func TestReadersAndPermitsExcludeThemAndAreExcluded(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		w := newWorld(t)
		name := w.name("rw")
		a, b := etcdlock.NewRWMutex(w.session(w.client()), name), etcdlock.NewRWMutex(w.session(w.client()), name)
		first, err := a.RLock(w.ctx())
		require.NoError(t, err)
		second, err := b.RLock(w.ctx())
		require.NoError(t, err, "readers share")
		next := start(w.ctx(), k.lock(w, name))
		w.waitForKeys(name, 3)
		require.NoError(t, first.Unlock(w.ctx()))
		w.waits(next, waitABit)
		require.NoError(t, second.Unlock(w.ctx()))
		they := w.granted(next)
		_, err = a.TryRLock(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		w.release(they)

		name = w.name("semaphore")
		pool := func() *etcdlock.Semaphore { return etcdlock.NewSemaphore(w.session(w.client()), name, 2) }
		one, err := pool().Acquire(w.ctx(), 1)
		require.NoError(t, err)
		two, err := pool().Acquire(w.ctx(), 1)
		require.NoError(t, err, "there are two")
		next = start(w.ctx(), k.lock(w, name))
		w.waitForKeys(name, 3)
		require.NoError(t, one.Release(w.ctx()))
		w.waits(next, waitABit)
		require.NoError(t, two.Release(w.ctx()))
		they = w.granted(next)
		_, err = pool().TryAcquire(w.ctx(), 1)
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		w.release(they)

		held := w.must(k.lock(w, w.name("all/b")))
		_, err = etcdlock.NewMultiMutex(w.session(w.client()), []string{w.name("all/a"), w.name("all/b")}).TryLock(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		w.release(held)
		set, err := etcdlock.NewMultiMutex(w.session(w.client()), []string{w.name("all/a"), w.name("all/b")}).Lock(w.ctx())
		require.NoError(t, err)
		next = start(w.ctx(), k.lock(w, w.name("all/b")))
		w.waitForKeys(w.name("all/b"), 2)
		w.waits(next, waitABit)
		require.NoError(t, set.Unlock(w.ctx()))
		w.release(w.granted(next))
	})
}

// shared takes and releases each of the primitives that share a name or span several.
func (w *world) shared(c *clientv3.Client, name string) {
	t := w.t
	t.Helper()
	s := w.session(c)
	rw := etcdlock.NewRWMutex(s, name+"-rw")
	r, err := rw.RLock(w.ctx())
	require.NoError(t, err)
	r2, err := etcdlock.NewRWMutex(w.session(c), name+"-rw").RLock(w.ctx())
	require.NoError(t, err)
	require.NoError(t, r.Unlock(w.ctx()))
	require.NoError(t, r2.Unlock(w.ctx()))
	wr, err := rw.Lock(w.ctx())
	require.NoError(t, err)
	require.NoError(t, wr.Unlock(w.ctx()))
	p, err := etcdlock.NewSemaphore(s, name+"-semaphore", 3).Acquire(w.ctx(), 2)
	require.NoError(t, err)
	require.NoError(t, p.Release(w.ctx()))
	set, err := etcdlock.NewMultiMutex(s, []string{name + "-a", name + "-b"}).Lock(w.ctx())
	require.NoError(t, err)
	require.NoError(t, set.Unlock(w.ctx()))
}

func TestCoreReadersPermitsAndSeveralNames(t *testing.T) {
	w := newWorld(t)
	w.shared(w.client(), w.name("x"))
}
