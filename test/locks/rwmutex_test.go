package locks

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestReadersShareAndAWriterWaits(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	mine := etcdlock.NewRWMutex(f.Session(f.Client(c.Options()...), cluster.LongTTL), "rw", etcdlock.WithTimeSlice(0)) // so that it asks
	other := etcdlock.NewRWMutex(f.Session(f.Client(), cluster.LongTTL), "rw")
	ctx := f.Ctx()
	var r1, r2, r3 *etcdlock.ReadLock
	var err error
	c.Costs(t, cluster.OneTxn, func() { r1, err = mine.RLock(ctx) }, "read, free")
	require.NoError(t, err)
	r2, err = other.RLock(ctx)
	require.NoError(t, err)
	before := f.Revision()
	_, err = mine.TryLock(ctx)
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.Revision(), "something was written")

	writer := cluster.InBackground(func() (*etcdlock.WriteLock, error) { return other.Lock(ctx) })
	f.WaitForKeys("rw", 3)
	late := cluster.InBackground(func() (*etcdlock.ReadLock, error) { return mine.RLock(ctx) })
	f.WaitForKeys("rw", 4)
	cluster.StillWaiting(t, writer, 200*time.Millisecond)
	require.NoError(t, r1.Unlock(ctx))
	require.NoError(t, r2.Unlock(ctx))
	w := cluster.Granted(t, writer).Handle
	require.Greater(t, w.Token(), r2.Token())
	cluster.StillWaiting(t, late, 200*time.Millisecond)
	r, err := w.Downgrade(ctx)
	require.NoError(t, err)
	r3 = cluster.Granted(t, late).Handle
	require.ErrorIs(t, concurrency.NewMutex(f.ForeignSession(), "rw").TryLock(ctx), concurrency.ErrLocked)

	up := cluster.InBackground(func() (*etcdlock.WriteLock, error) { return r.Upgrade(ctx) })
	cluster.StillWaiting(t, up, 200*time.Millisecond)
	_, err = r3.Upgrade(ctx)
	require.ErrorIs(t, err, etcdlock.ErrUpgradeConflict)
	require.NoError(t, r3.Unlock(ctx))
	w = cluster.Granted(t, up).Handle
	require.Greater(t, w.Token(), r3.Token())
	require.NoError(t, w.Unlock(ctx))
	f.WaitForKeys("rw", 0)
}

// Many at once on a real cluster, of several sessions, with changes between reading and
// writing.
func TestManyReadersAndWriters(t *testing.T) {
	f := newFixture(t)
	f.Put("n", "0")
	var workers []func() error
	for range 3 {
		m := etcdlock.NewRWMutex(f.Session(f.Client(), cluster.LongTTL), "rw")
		for i := range 3 {
			workers = append(workers, func() error {
				ctx := f.Ctx()
				for range 8 {
					if i == 0 {
						l, err := m.Lock(ctx)
						if err != nil {
							return err
						}
						if err := cluster.Raise(ctx, f.Admin, "n"); err != nil {
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
					before := f.Get("n")
					time.Sleep(2 * time.Millisecond)
					if f.Get("n") != before {
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
	cluster.All(t, workers...)
	require.Equal(t, "24", f.Get("n"))
}

func TestAWriterComesInAfterAReaderWasKilled(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.Start(cluster.HolderSettings{Read: "rw", TTL: ttl})
	first := h.Next("held")
	m := etcdlock.NewRWMutex(f.Session(f.Client(), cluster.LongTTL), "rw")
	beside, err := m.RLock(f.Ctx())
	require.NoError(t, err)
	require.NoError(t, beside.Unlock(f.Ctx()))
	writer := cluster.InBackground(func() (*etcdlock.WriteLock, error) { return m.Lock(f.Ctx()) })
	f.WaitForKeys("rw", 2)
	killed := time.Now()
	h.Signal(syscall.SIGKILL)
	second := cluster.Granted(t, writer)
	t.Logf("figure: TTL %v: written %v after kill -9 of a reader", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), ttl+cluster.ExpirySlack)
	require.Greater(t, second.Handle.Token(), first.Token)
	require.NoError(t, second.Handle.Unlock(f.Ctx()))
}
