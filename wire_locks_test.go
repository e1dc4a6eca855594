package etcdlock

import (
	"context"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// A WireScenario is some use of the library that writes to etcd.
type WireScenario struct {
	Title string
	Run   func(w *Wire)
}

// WireLocks are the scenarios of locks.
var WireLocks = []WireScenario{
	{"Mutex: a holder, a waiter, and a waiter that gives up", func(w *Wire) {
		a := w.lock(NewMutex(w.session("a"), "jobs/42"))
		b := start(w.world, NewMutex(w.session("b"), "jobs/42").Lock)
		w.Step("c waits, and gives up")
		c := start(w.world, NewMutex(w.session("c"), "jobs/42").Lock)
		w.pass(time.Second)
		c.cancel()
		c.fails(context.Canceled)
		w.Step("a unlocks")
		w.unlock(a.Unlock)
		w.unlock(b.get().Unlock)
	}},
	{"Mutex: direct handoff, as in a long queue, to two waiters and one that gives up", func(w *Wire) {
		a := w.lock(NewMutex(w.session("a", marks()), "jobs/42"))
		b := start(w.world, NewMutex(w.session("b", marks()), "jobs/42").Lock)
		w.pass(10 * time.Millisecond)
		c := start(w.world, NewMutex(w.session("c", marks()), "jobs/42").Lock)
		w.pass(10 * time.Millisecond)
		d := start(w.world, NewMutex(w.session("d", marks()), "jobs/42").Lock)
		w.pass(10 * time.Millisecond)
		w.Step("a unlocks, and c gives up")
		w.unlock(a.Unlock)
		c.cancel()
		c.fails(context.Canceled)
		w.pass(10 * time.Millisecond)
		w.Step("b and d unlock")
		w.unlock(b.get().Unlock)
		w.unlock(d.get().Unlock)
		w.Step("the name is used no more")
		w.pass(2 * time.Second)
	}},
	{"Mutex: direct handoff, and a session that enters again as it leaves", func(w *Wire) {
		m := NewMutex(w.session("a", marks()), "jobs/42", WithTimeSlice(0))
		first := w.lock(m)
		second := start(w.world, m.Lock)
		b := start(w.world, NewMutex(w.session("b", marks()), "jobs/42").Lock)
		w.pass(10 * time.Millisecond)
		w.Step("a unlocks, and another goroutine of it waits")
		w.unlock(first.Unlock)
		w.Step("b unlocks")
		w.unlock(b.get().Unlock)
		w.unlock(second.get().Unlock)
	}},
	{"Mutex: TryLock, Do and Locker", func(w *Wire) {
		m := NewMutex(w.session("a"), "m")
		l, err := m.TryLock(w.ctx)
		require.NoError(w, err)
		w.Step("TryLock of b fails, and writes nothing")
		_, err = NewMutex(w.session("b"), "m").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		w.unlock(l.Unlock)
		w.Step("Do")
		require.NoError(w, m.Do(w.ctx, func(context.Context, *Lock) error { return nil }))
		w.Step("Locker")
		locker := m.Locker()
		locker.Lock()
		locker.Unlock() //nolint:staticcheck // the empty section writes as any other
		w.pass(time.Second)
	}},
	{"Mutex: an owner, of a session or of a mutex", func(w *Wire) {
		s := w.session("a", WithOwner("indexer"))
		w.unlock(w.lock(NewMutex(s, "m")).Unlock)
		w.unlock(w.lock(NewMutex(s, "m", WithOwner(`"<é>"`))).Unlock)
		w.unlock(w.lock(NewMutex(s, "m", WithOwner(""))).Unlock)
	}},
	{"Mutex: goroutines of one session share a key within a time slice, and have one each without", func(w *Wire) {
		s := w.session("a")
		for _, slice := range []time.Duration{time.Second, 0} {
			m := NewMutex(s, "m", WithTimeSlice(slice))
			first := w.lock(m)
			second := start(w.world, m.Lock)
			w.Step("a second goroutine waits")
			w.unlock(first.Unlock)
			w.unlock(second.get().Unlock)
			w.Step("without a time slice")
		}
	}},
	{"Mutex: a key that is kept after Unlock, and given up for another session", func(w *Wire) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Minute))
		w.unlock(w.lock(m).Unlock)
		w.Step("it is locked again")
		w.unlock(w.lock(m).Unlock)
		w.Step("b comes")
		w.unlock(w.lock(NewMutex(w.session("b"), "m")).Unlock)
	}},
	{"Mutex: a second hold under the context of the first writes nothing", func(w *Wire) {
		m := NewMutex(w.session("a"), "m", WithReentry(2))
		outer := w.lock(m)
		w.Step("the second hold")
		inner, err := m.Lock(outer.Context())
		require.NoError(w, err)
		w.unlock(inner.Unlock)
		w.Step("the first one is released")
		w.unlock(outer.Unlock)
	}},
	{"Mutex: a hold that reaches its limit is released", func(w *Wire) {
		a := w.lock(NewMutex(w.session("a"), "m", WithMaxHold(time.Second)))
		w.pass(time.Minute)
		require.ErrorIs(w, a.Err(), ErrHeldTooLong)
	}},
	{"Mutex: names inside each other", func(w *Wire) {
		a, b := w.session("a"), w.session("b")
		inner := w.lock(NewMutex(a, "jobs/42"))
		w.Step("b wants the outer name, and leaves again")
		_, err := NewMutex(b, "jobs").Lock(w.ctx)
		require.ErrorIs(w, err, ErrNestedName)
		w.pass(time.Minute)
		w.unlock(inner.Unlock)
	}},
	{"Mutex: names of any bytes, and foreign ones", func(w *Wire) {
		s := w.session("a", WithForeignNames(), WithDeadlockDetection(""))
		for _, name := range []string{"ä ö", "\xff\x01\n", "/jobs/", "/"} {
			w.unlock(w.lock(NewMutex(s, name)).Unlock)
		}
	}},
	{"Mutex: deadlock detection, where an entry says what its waiter holds", func(w *Wire) {
		a, b := w.session("a", WithDeadlockDetection("x/")), w.session("b")
		la, lb := w.lock(NewMutex(a, "x/1")), w.lock(NewMutex(b, "x/2\xff"))
		older := start(w.world, func(context.Context) (*Lock, error) {
			return NewMutex(a, "x/2\xff").Lock(context.WithoutCancel(la.Context()))
		})
		w.Step("b closes the circle, and is refused")
		_, err := NewMutex(b, "x/1", WithDeadlockDetection("x/")).Lock(lb.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		w.Step("a's waiter lets go of what it holds")
		w.unlock(la.Unlock)
		w.Step("b unlocks")
		w.unlock(lb.Unlock)
		w.unlock(older.get().Unlock)
	}},
	{"Mutex: two callers of one session that hold something else have an entry each", func(w *Wire) {
		a := w.session("a", WithDeadlockDetection(""))
		x, y := w.lock(NewMutex(a, "x")), w.lock(NewMutex(a, "y"))
		m := w.lock(NewMutex(w.session("b"), "m"))
		p, q := w.lockUnder(x.Context(), NewMutex(a, "m")), w.lockUnder(y.Context(), NewMutex(a, "m"))
		w.Step("b unlocks")
		w.unlock(m.Unlock)
		w.unlock(p.get().Unlock)
		w.unlock(q.get().Unlock)
		w.unlock(x.Unlock)
		w.unlock(y.Unlock)
	}},
	{"Mutex: a request to let go", func(w *Wire) {
		l := w.lock(NewMutex(w.session("a"), "m\xff"))
		asked := l.Asked()
		w.Step("b asks")
		p := w.askLater(w.session("b"), "m\xff", "a <new> version")
		w.told(asked)
		w.Step("a lets go")
		w.unlock(l.Unlock)
		p.get()
	}},
	{"RWMutex: readers of one session share a key", func(w *Wire) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		r1, r2 := w.read(a), w.read(a)
		r3 := w.read(b)
		w.Step("c waits to write")
		c := start(w.world, NewRWMutex(w.session("c"), "m").Lock)
		w.pass(time.Second)
		w.Step("the readers leave")
		for _, unlock := range []func(context.Context) error{r1.Unlock, r2.Unlock, r3.Unlock} {
			w.unlock(unlock)
		}
		w.unlock(c.get().Unlock)
	}},
	{"RWMutex: a reader of a session that waits to write has a key of its own", func(w *Wire) {
		s := w.session("a")
		m := NewRWMutex(s, "m", WithTimeSlice(0))
		r := w.read(m)
		write := start(w.world, m.Lock)
		w.pass(time.Second)
		read := start(w.world, m.RLock)
		w.Step("the reader leaves")
		w.unlock(r.Unlock)
		w.unlock(write.get().Unlock)
		w.unlock(read.get().Unlock)
	}},
	{"RWMutex: TryRLock, TryLock, RDo and Do", func(w *Wire) {
		m := NewRWMutex(w.session("a"), "m")
		r, err := m.TryRLock(w.ctx)
		require.NoError(w, err)
		w.unlock(r.Unlock)
		l, err := m.TryLock(w.ctx)
		require.NoError(w, err)
		w.unlock(l.Unlock)
		w.Step("RDo and Do")
		require.NoError(w, m.RDo(w.ctx, func(context.Context, *ReadLock) error { return nil }))
		require.NoError(w, m.Do(w.ctx, func(context.Context, *WriteLock) error { return nil }))
	}},
	{"RWMutex: upgrade, and the conflict of two", func(w *Wire) {
		a, b := w.read(NewRWMutex(w.session("a"), "m")), w.read(NewRWMutex(w.session("b"), "m"))
		up := start(w.world, a.Upgrade)
		w.Step("b wants to upgrade too")
		_, err := b.Upgrade(w.ctx)
		require.ErrorIs(w, err, ErrUpgradeConflict)
		w.Step("b leaves")
		w.unlock(b.Unlock)
		w.unlock(up.get().Unlock)
	}},
	{"RWMutex: an upgrade that is given up", func(w *Wire) {
		a, b := w.read(NewRWMutex(w.session("a"), "m")), w.read(NewRWMutex(w.session("b"), "m"))
		up := start(w.world, a.Upgrade)
		w.pass(time.Second)
		w.Step("a gives up")
		up.cancel()
		up.fails(context.Canceled)
		w.Step("both leave")
		w.unlock(a.Unlock)
		w.unlock(b.Unlock)
	}},
	{"RWMutex: an upgrade ahead of a writer that waits, which is the bound", func(w *Wire) {
		a, b := w.read(NewRWMutex(w.session("a"), "m")), w.read(NewRWMutex(w.session("b"), "m"))
		c := start(w.world, NewRWMutex(w.session("c"), "m").Lock)
		w.Step("a upgrades")
		up := start(w.world, a.Upgrade)
		w.Step("b leaves")
		w.unlock(b.Unlock)
		w.unlock(up.get().Unlock)
		w.unlock(c.get().Unlock)
	}},
	{"RWMutex: downgrade", func(w *Wire) {
		l := w.write(NewRWMutex(w.session("a"), "m"))
		r, err := l.Downgrade(w.ctx)
		require.NoError(w, err)
		w.Step("a leaves")
		w.unlock(r.Unlock)
	}},
	{"Semaphore: permits", func(w *Wire) {
		a := NewSemaphore(w.session("a"), "pool", 3, WithOwner("importer"))
		two, err := a.Acquire(w.ctx, 2)
		require.NoError(w, err)
		one, err := a.TryAcquire(w.ctx, 1)
		require.NoError(w, err)
		w.Step("b waits for three")
		b := start(w.world, NewSemaphore(w.session("b"), "pool", 3).permits(3))
		w.pass(time.Second)
		w.Step("a releases")
		w.unlock(two.Release)
		w.unlock(one.Release)
		w.unlock(b.get().Release)
		w.Step("Do")
		require.NoError(w, a.Do(w.ctx, 1, func(context.Context, *Permit) error { return nil }))
	}},
	{"Semaphore: SetLimit, while there are holders and waiters", func(w *Wire) {
		a, b := NewSemaphore(w.session("a"), "pool", 3), NewSemaphore(w.session("b"), "pool", 3)
		two := w.acquire(a, 2)
		waiting := start(w.world, b.permits(2))
		w.Step("a sets the limit to 4")
		w.setLimit(a, 4)
		other := waiting.get()
		w.Step("one of the new limit")
		w.unlock(two.Release)
		w.unlock(w.acquire(a, 1).Release)
		w.Step("a takes the limit back")
		w.setLimit(a, 0)
		w.unlock(w.acquire(a, 1).Release)
		w.unlock(other.Release)
	}},
	{"LockAll: a key in each queue, at one revision", func(w *Wire) {
		a, b := w.session("a"), w.session("b")
		set := w.lockAll(a, "jobs", "mail\xff")
		w.Step("b waits for one of them and another one")
		p := w.lockAllLater(b, "jobs", "stock")
		w.pass(time.Second)
		w.Step("a unlocks")
		w.unlock(set.Unlock)
		w.unlock(p.get().Unlock)
	}},
	{"LockAll: TryLockAll, DoAll, and the keys of a session that has one already", func(w *Wire) {
		s := w.session("a")
		m := NewMutex(s, "jobs", WithRetention(time.Minute))
		w.unlock(w.lock(m).Unlock)
		w.Step("LockAll with the name of a key that is kept")
		w.unlock(w.lockAll(s, "jobs", "mail").Unlock)
		w.Step("TryLockAll")
		set, err := NewMultiMutex(s, []string{"mail", "stock"}).TryLock(w.ctx)
		require.NoError(w, err)
		w.unlock(set.Unlock)
		w.Step("DoAll")
		require.NoError(w, NewMultiMutex(s, []string{"mail", "stock"}).Do(w.ctx, func(context.Context, *LockSet) error { return nil }))
	}},
	{"Trace: each lock has the traceparent of its call, and a candidate has none", func(w *Wire) {
		s := w.session("a", WithTrace(&Trace{Traceparent: func(context.Context) string {
			return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		}}))
		w.unlock(w.lock(NewMutex(s, "m")).Unlock)
		write, err := NewRWMutex(s, "m", WithOwner("é")).Lock(w.ctx)
		require.NoError(w, err)
		read, err := write.Downgrade(w.ctx)
		require.NoError(w, err)
		w.unlock(read.Unlock)
		w.unlock(w.acquire(NewSemaphore(s, "sem", 3), 1).Release)
		w.unlock(w.lockAll(s, "jobs", "mail").Unlock)
		require.NoError(w, w.campaign(NewElection(s, "e"), "host-a:80").Resign(w.ctx))
	}},
	{"Striped: the names of its mutexes", func(w *Wire) {
		s := NewStriped(w.session("a"), "stripes", 16, WithOwner("cache"))
		for _, key := range []string{"", "user/1", "user/2", strings.Repeat("k", 100)} {
			w.unlock(w.lock(s.For(key)).Unlock)
		}
	}},
}
