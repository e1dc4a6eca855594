package test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

func TestReadersShareAndAWriterWaits(t *testing.T) {
	f := newFixture(t)
	var c counter
	mine := etcdlock.NewRWMutex(f.session(f.client(c.options()...), 10*time.Second), "rw", etcdlock.WithTimeSlice(0)) // so that it asks
	other := etcdlock.NewRWMutex(f.session(f.client(), 10*time.Second), "rw")
	ctx := f.ctx()
	var r1, r2, r3 *etcdlock.ReadLock
	var err error
	require.Equal(t, oneTxn, c.during(func() { r1, err = mine.RLock(ctx) }), "read, free")
	require.NoError(t, err)
	r2, err = other.RLock(ctx)
	require.NoError(t, err)
	before := f.revision()
	_, err = mine.TryLock(ctx)
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.revision(), "something was written")

	writer := inBackground(func() (*etcdlock.WriteLock, error) { return other.Lock(ctx) })
	f.waitForKeys("rw", 3)
	late := inBackground(func() (*etcdlock.ReadLock, error) { return mine.RLock(ctx) })
	f.waitForKeys("rw", 4)
	stillWaiting(t, writer, 200*time.Millisecond)
	require.NoError(t, r1.Unlock(ctx))
	require.NoError(t, r2.Unlock(ctx))
	w := granted(t, writer).handle
	require.Greater(t, w.Token(), r2.Token())
	stillWaiting(t, late, 200*time.Millisecond)
	r, err := w.Downgrade(ctx)
	require.NoError(t, err)
	r3 = granted(t, late).handle
	require.ErrorIs(t, concurrency.NewMutex(f.foreignSession(), "rw").TryLock(ctx), concurrency.ErrLocked)

	up := inBackground(func() (*etcdlock.WriteLock, error) { return r.Upgrade(ctx) })
	stillWaiting(t, up, 200*time.Millisecond)
	_, err = r3.Upgrade(ctx)
	require.ErrorIs(t, err, etcdlock.ErrUpgradeConflict)
	require.NoError(t, r3.Unlock(ctx))
	w = granted(t, up).handle
	require.Greater(t, w.Token(), r3.Token())
	require.NoError(t, w.Unlock(ctx))
	f.waitForKeys("rw", 0)
}

// Many at once on a real cluster, of several sessions, with changes between reading and
// writing.
func TestManyReadersAndWriters(t *testing.T) {
	f := newFixture(t)
	f.put("n", "0")
	var workers []func() error
	for range 3 {
		m := etcdlock.NewRWMutex(f.session(f.client(), 10*time.Second), "rw")
		for i := range 3 {
			workers = append(workers, func() error {
				ctx := f.ctx()
				for range 8 {
					if i == 0 {
						l, err := m.Lock(ctx)
						if err != nil {
							return err
						}
						if err := raise(ctx, f.admin, "n"); err != nil {
							return err
						}
						r, err := l.Downgrade(ctx)
						if err != nil {
							return err
						}
						if err := r.Unlock(ctx); err != nil {
							return err
						}
						continue
					}
					l, err := m.RLock(ctx)
					if err != nil {
						return err
					}
					before := f.get("n")
					time.Sleep(2 * time.Millisecond)
					if f.get("n") != before {
						t.Error("written while it was read")
					}
					if err := l.Unlock(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	all(t, workers...)
	require.Equal(t, "24", f.get("n"))
}

func TestAWriterComesInAfterAReaderWasKilled(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.start(holderSettings{Read: "rw", TTL: ttl})
	first := h.next("held")
	m := etcdlock.NewRWMutex(f.session(f.client(), ttl), "rw")
	beside, err := m.RLock(f.ctx())
	require.NoError(t, err)
	require.NoError(t, beside.Unlock(f.ctx()))
	writer := inBackground(func() (*etcdlock.WriteLock, error) { return m.Lock(f.ctx()) })
	f.waitForKeys("rw", 2)
	killed := time.Now()
	h.signal(syscall.SIGKILL)
	second := granted(t, writer)
	t.Logf("figure: TTL %v: written %v after kill -9 of a reader", ttl, second.at.Sub(killed))
	require.Less(t, second.at.Sub(killed), ttl+handoverBound)
	require.Greater(t, second.handle.Token(), first.Token)
	require.NoError(t, second.handle.Unlock(f.ctx()))
}
