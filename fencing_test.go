package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// trap A18: tokens grow strictly from holder to holder, however the lock changes
// hands, and whatever else is written to etcd meanwhile.
func TestTokensGrowOverHandoversOfEveryKind(t *testing.T) {
	simulate(t, func(w *world) {
		var last int64
		took := func(how string, l *Lock) *Lock {
			w.Helper()
			require.Greater(w, l.Token(), last, how)
			require.LessOrEqual(w, l.Token(), w.Revision(), how)
			last = l.Token()
			w.PutKey("elsewhere", how, 0)
			return l
		}
		release := func(l *Lock) {
			w.Helper()
			require.NoError(w, l.Unlock(w.ctx))
		}
		sa, sb := w.session("a"), w.session("b")
		a, b := NewMutex(sa, "m"), NewMutex(sb, "m")

		for range 3 {
			release(took("alone", w.lock(a)))
			release(took("alone, another", w.lock(b)))
		}
		l := took("alone", w.lock(a))
		for range 3 {
			wait := start(w, b.Lock)
			w.pass(time.Second)
			release(l)
			l = took("waited", wait.get())
			wait = start(w, b.Lock)
			w.pass(time.Second)
			release(l)
			l = took("within one session", wait.get())
		}
		release(l)

		l, err := a.TryLock(w.ctx)
		require.NoError(w, err)
		took("tried", l)
		wait := start(w, b.Lock)
		w.pass(time.Second)
		w.Client("a").Cut()
		took("after an expiry", wait.get())
		w.Client("a").Heal()
		wait = start(w, a.Lock)
		w.pass(time.Second)
		w.RevokeLease(sb.Lease())
		took("after a revocation", wait.get())
		w.pass(time.Second)
		wait = start(w, b.Lock)
		w.pass(time.Second)

		succ := w.session("a2", WithLease(w.orphan(sa)))
		l = took("taken over", w.lock(NewMutex(succ, "m")))
		wait.isWaiting()
		w.DeleteKey(l.Key())
		l = took("after an eviction", wait.get())
		release(l)

		// Taken over without a write in between, and by a TryLock.
		l = took("alone", w.lock(NewMutex(succ, "m")))
		before := l.Token()
		third := w.session("a3", WithLease(w.orphan(succ)))
		l, err = NewMutex(third, "m").TryLock(w.ctx)
		require.NoError(w, err)
		require.Greater(w, took("taken over by a try", l).Token(), before)
		release(l)
	})
}

// design.md, section 5: a fleet mixed with etcd's own library stays exclusive, in
// order, and fenced.
func TestAFleetMixedWithEtcdsOwnLibraryIsOneQueue(t *testing.T) {
	simulate(t, func(w *world) {
		theirs := func(client string) (*concurrency.Mutex, func()) {
			s, err := concurrency.NewSession(w.Client(client).Client, concurrency.WithTTL(10))
			require.NoError(w, err)
			return concurrency.NewMutex(s, "m"), func() { _ = s.Close() }
		}
		x, closeX := theirs("x")
		y, closeY := theirs("y")
		a := NewMutex(w.session("a"), "m")

		var last int64
		grows := func(token int64) {
			w.Helper()
			require.Greater(w, token, last)
			last = token
		}
		lockX := func(ctx context.Context) (int64, error) {
			err := x.Lock(ctx)
			return x.Header().GetRevision(), err
		}
		for range 5 {
			l := w.lock(a)
			grows(l.Token())
			waitX := start(w, lockX)
			w.pass(time.Second)
			waitA := start(w, a.Lock)
			w.pass(time.Second)
			require.ErrorIs(w, y.TryLock(w.ctx), concurrency.ErrLocked)
			require.ErrorIs(w, second(a.TryLock(w.ctx)), ErrLocked)
			waitX.isWaiting()
			require.NoError(w, l.Unlock(w.ctx))
			grows(waitX.get())
			waitA.isWaiting()
			require.NoError(w, x.Unlock(w.ctx))
			l = waitA.get()
			grows(l.Token())
			require.NoError(w, l.Unlock(w.ctx))
			require.NoError(w, y.TryLock(w.ctx))
			grows(y.Header().GetRevision())
			_, err := a.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			require.NoError(w, y.Unlock(w.ctx))
		}
		closeX()
		closeY()
		w.allGone()
	})
}
