package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// read locks for reading, and must succeed within a minute.
func (w *world) read(m *RWMutex) *ReadLock {
	w.Helper()
	return start(w, m.RLock).get()
}

// write locks for writing, and must succeed within a minute.
func (w *world) write(m *RWMutex) *WriteLock {
	w.Helper()
	return start(w, m.Lock).get()
}

// unlock releases something, which must be confirmed.
func (w *world) unlock(unlock func(context.Context) error) {
	w.Helper()
	require.NoError(w, unlock(w.timeout(time.Minute)))
}

// unchanged asserts that f writes nothing to etcd.
func (w *world) unchanged(f func()) {
	w.Helper()
	before := w.Revision()
	f()
	w.pass(time.Second)
	require.Equal(w, before, w.Revision(), "something was written")
}

func TestReadersHoldTogetherAndWritersAlone(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		first := w.write(NewRWMutex(w.session("first"), "m"))
		ra, rb := start(w, a.RLock), start(w, b.RLock)
		w.pass(time.Second)
		wc := start(w, c.Lock)
		w.pass(time.Second)
		ra.isWaiting()
		rb.isWaiting()
		w.unlock(first.Unlock)
		r1, r2 := ra.get(), rb.get()
		w.pass(time.Second)
		wc.isWaiting()
		w.unlock(r1.Unlock)
		w.pass(time.Second)
		wc.isWaiting()
		require.NoError(w, r2.Err())
		w.unlock(r2.Unlock)
		last := wc.get()
		require.ErrorIs(w, r2.Err(), ErrReleased)
		require.ErrorIs(w, r2.Unlock(w.ctx), ErrReleased)
		w.unlock(last.Unlock)
		w.empty("m")
		w.allGone()
	})
}

func TestAWritersTokenIsLargerThanAllBefore(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		r1, r2 := w.read(a), w.read(b)
		wait := start(w, b.Lock)
		w.pass(time.Second)
		w.unlock(r1.Unlock)
		w.unlock(r2.Unlock)
		l := wait.get()
		require.Greater(w, l.Token(), r1.Token())
		require.Greater(w, l.Token(), r2.Token())
		again := start(w, a.RLock)
		w.pass(time.Second)
		w.unlock(l.Unlock)
		r := again.get()
		require.Greater(w, r.Token(), l.Token())
		up := start(w, r.Upgrade).get()
		require.Greater(w, up.Token(), r.Token())
		down := start(w, up.Downgrade).get()
		require.Equal(w, up.Token(), down.Token())
		w.unlock(down.Unlock)
		w.allGone()
	})
}

// trap A1: each of them has a hold of its own.
func TestReadersOfOneSessionShareOneKey(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		ca := w.Client("a")
		var locks []*ReadLock
		require.Equal(w, "1 Txn", requests(ca, func() { locks = append(locks, w.read(a)) }))
		require.Empty(w, requests(ca, func() {
			for range 10 {
				locks = append(locks, w.read(a))
			}
		}), "they come in beside it")
		w.pass(time.Second)
		var all []*pending[*ReadLock]
		require.Equal(w, "1 TxnReadOnly", requests(ca, func() {
			for range 10 {
				all = append(all, start(w, a.RLock))
			}
			for _, p := range all {
				locks = append(locks, p.get())
			}
		}), "after a slice the session asks again for waiters, once for all readers")
		require.Len(w, w.Keys("m/"), 1)
		require.Empty(w, requests(ca, func() {
			for _, l := range locks[1:] {
				require.Equal(w, locks[0].Key(), l.Key())
				w.unlock(l.Unlock)
				require.ErrorIs(w, l.Err(), ErrReleased)
			}
		}))
		require.NoError(w, locks[0].Err())
		require.Equal(w, "1 Txn", requests(ca, func() { w.unlock(locks[0].Unlock) }), "the last one deletes it")
		w.empty("m")
		w.allGone()
	})
}

// However long readers of a session come and go without a gap, the session has one key
// and asks once in a slice.
func TestReadersWithoutEndCostOneReadInASlice(t *testing.T) {
	simulate(t, func(w *world) {
		const slice = 100 * time.Millisecond
		a := NewRWMutex(w.session("a"), "m", WithTimeSlice(slice))
		hold := w.read(a)
		c := w.Client("a")
		c.ResetCounts()
		for range 1000 {
			next := w.read(a)
			w.unlock(hold.Unlock)
			hold = next
			time.Sleep(10 * time.Millisecond)
		}
		require.Zero(w, c.Count(simetcd.Txn), "writes")
		require.LessOrEqual(w, c.Count(simetcd.TxnReadOnly), int(10*time.Second/slice)+2)
		require.Len(w, w.Keys("m/"), 1)
		w.unlock(hold.Unlock)
		w.allGone()
	})
}

func TestEveryPathOfAnRWMutexTakesAsFewRequestsAsPromised(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		ca, cb := w.Client("a"), w.Client("b")
		var r *ReadLock
		var l *WriteLock
		require.Equal(w, "1 Txn", requests(ca, func() { r = w.read(a) }), "read, free")
		var beside *ReadLock
		require.Equal(w, "1 Txn", requests(cb, func() { beside = w.read(b) }), "read beside readers")
		require.Equal(w, "1 Txn", requests(cb, func() { w.unlock(beside.Unlock) }))

		var wait *pending[*WriteLock]
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(cb, func() {
			wait = start(w, b.Lock)
			w.pass(200 * time.Millisecond)
		}), "write, taken: to be in line")
		require.Empty(w, requests(cb, func() {
			require.Equal(w, "1 Txn", requests(ca, func() { w.unlock(r.Unlock) }))
			l = wait.get()
		}), "write: handover")

		var reader *pending[*ReadLock]
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(ca, func() {
			reader = start(w, a.RLock)
			w.pass(200 * time.Millisecond)
		}), "read, taken: to be in line")
		require.Empty(w, requests(ca, func() {
			w.unlock(l.Unlock)
			r = reader.get()
		}), "read: handover")

		w.unlock(r.Unlock)
		w.pass(5 * time.Second)
		r = w.read(a)
		var down *ReadLock
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(ca, func() { l = start(w, r.Upgrade).get() }), "upgrade, nobody else in")
		require.Equal(w, "1 Txn", requests(ca, func() { down = start(w, l.Downgrade).get() }), "downgrade")
		w.unlock(down.Unlock)
		w.allGone()
	})
}

// trap A13
func TestARefusedTryWritesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		l := w.write(a)
		w.unchanged(func() {
			_, err := b.TryRLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			_, err = b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			_, err = a.TryRLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		})
		w.unlock(l.Unlock)
		r := w.read(a)
		w.unchanged(func() {
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			_, err = a.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
		})
		beside, err := b.TryRLock(w.ctx)
		require.NoError(w, err)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		w.unchanged(func() {
			for _, m := range []*RWMutex{a, b} {
				_, err = m.TryRLock(w.ctx)
				require.ErrorIs(w, err, ErrLocked, "a writer waits")
			}
		})
		w.unlock(beside.Unlock)
		w.unlock(r.Unlock)
		w.unlock(writer.get().Unlock)
		w.allGone()
	})
}

// Of several callers of one session that try at one instant, none is refused because of the others.
func TestReadersWhoTryAtOnceAllGetIn(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		var tries []*pending[*ReadLock]
		for range 5 {
			tries = append(tries, start(w, a.TryRLock), start(w, a.RLock))
		}
		for _, p := range tries {
			w.unlock(p.get().Unlock)
		}
		// But not when a caller has to wait.
		l := w.write(NewRWMutex(w.session("b"), "m"))
		reader := start(w, a.RLock)
		reader.isWaiting()
		try := start(w, a.TryRLock) // the reader's first request is still under way
		try.fails(ErrLocked)
		reader.isWaiting()
		w.unlock(l.Unlock)
		w.unlock(reader.get().Unlock)
		w.allGone()
	})
}

// A key that was kept by a writer is given up for a reader of the same session.
func TestAReaderDoesNotWaitForAKeyThatItsSessionKeeps(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		a := NewRWMutex(s, "m", WithRetention(time.Hour))
		w.unlock(w.write(a).Unlock)
		require.Len(w, w.Keys("m/"), 1)
		began := time.Now()
		r := w.read(a)
		require.Less(w, time.Since(began), time.Second)
		w.unlock(r.Unlock)
		w.unlock(w.write(a).Unlock)
		p := start(w, func(ctx context.Context) (*Permit, error) { return NewSemaphore(s, "m", 2).Acquire(ctx, 1) }).get()
		w.unlock(p.Release)
		w.allGone()
	})
}

func TestDoHoldsForReadingAndForWriting(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		require.NoError(w, a.RDo(w.ctx, func(ctx context.Context, lock *ReadLock) error {
			require.NoError(w, ctx.Err())
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			return b.RDo(w.ctx, func(context.Context, *ReadLock) error { return lock.Err() })
		}))
		require.NoError(w, a.Do(w.ctx, func(_ context.Context, lock *WriteLock) error {
			_, err := b.TryRLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			return lock.Err()
		}))
		err := a.RDo(w.ctx, func(ctx context.Context, lock *ReadLock) error {
			w.DeleteKey(lock.Key())
			<-ctx.Done()
			return nil
		})
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrEvicted)
		w.allGone()
	})
}

func TestTheQueueTellsReadersFromWriters(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r1, r2 := w.read(a), w.read(b)
		writer := start(w, c.Lock)
		up := start(w, r1.Upgrade)
		w.pass(time.Second)
		entries, err := a.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 3)
		require.Equal(w, []string{"a", "b", "c"}, []string{entries[0].Owner, entries[1].Owner, entries[2].Owner})
		require.Equal(w, ModeUpgrading, entries[0].Mode)
		require.Equal(w, ModeShared, entries[1].Mode)
		require.Equal(w, ModeExclusive, entries[2].Mode)
		w.unlock(r2.Unlock)
		w.unlock(up.get().Unlock)
		w.unlock(writer.get().Unlock)
		w.allGone()
	})
}

func TestAnUnusableNameIsRefusedForEveryKind(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for _, name := range []string{"", "m/", "a//b", "a\x00limit"} {
			m, sem := NewRWMutex(s, name), NewSemaphore(s, name, 1)
			_, err := m.RLock(w.ctx)
			require.ErrorIs(w, err, ErrInvalidName, "%q", name)
			_, err = m.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrInvalidName, "%q", name)
			_, err = sem.Acquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrInvalidName, "%q", name)
			require.ErrorIs(w, sem.SetLimit(w.ctx, 1), ErrInvalidName, "%q", name)
			_, err = sem.Limit(w.ctx)
			require.ErrorIs(w, err, ErrInvalidName, "%q", name)
		}
		_, err := NewRWMutex(nil, "m").RLock(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
		_, err = NewSemaphore(nil, "m", 1).Acquire(w.ctx, 2)
		require.ErrorIs(w, err, ErrSessionClosed)
		w.allGone()
	})
}
