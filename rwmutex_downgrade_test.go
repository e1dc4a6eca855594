package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestADowngradeLetsNobodyBetween(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		l := w.write(a)
		early := start(w, c.RLock)
		w.pass(time.Second)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		late := start(w, c.RLock)
		w.pass(time.Second)
		kv := w.Get(l.Key())
		r := start(w, l.Downgrade).get()
		require.ErrorIs(w, l.Err(), ErrReleased)
		require.NoError(w, r.Err())
		require.Equal(w, kv.CreateRevision, w.Get(r.Key()).CreateRevision, "the key stays")
		in := early.get() // it was in front of the writer
		w.pass(time.Second)
		writer.isWaiting()
		w.unlock(r.Unlock)
		w.pass(time.Second)
		writer.isWaiting()
		w.unlock(in.Unlock)
		var last *ReadLock
		select { // those of one session go in together, when the first of them does
		case <-late.done:
			last = late.get()
			writer.isWaiting()
			w.unlock(last.Unlock)
			w.unlock(writer.get().Unlock)
		default:
			w.unlock(writer.get().Unlock)
			w.unlock(late.get().Unlock)
		}
		w.empty("m")
		w.allGone()
	})
}

func TestAfterADowngradeReadersOfTheSessionComeIn(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		l := w.write(a)
		waiting := start(w, a.RLock)
		w.pass(time.Second)
		waiting.isWaiting()
		r := start(w, l.Downgrade).get()
		r2 := waiting.get()
		r3 := w.read(a)
		require.Equal(w, r.Key(), r3.Key())
		writer := start(w, a.Lock) // the session's first key is still in use
		w.pass(time.Second)
		writer.isWaiting()
		for _, r := range []*ReadLock{r, r2, r3} {
			w.unlock(r.Unlock)
		}
		w.unlock(writer.get().Unlock)
		w.empty("m")
		w.allGone()
	})
}

func TestADowngradeWithoutEtcdHoldsAllTheSame(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m", WithTimeSlice(time.Minute)), NewRWMutex(w.session("b"), "m")
		l := w.write(a)
		other := start(w, b.RLock)
		w.pass(time.Second)
		w.Client("a").CutReplies()
		began := time.Now()
		r, err := l.Downgrade(w.timeout(2 * time.Second))
		require.NoError(w, err, "the caller reads, whenever others come in")
		require.Equal(w, 2*time.Second, time.Since(began))
		require.NoError(w, r.Err())
		beside := w.read(a) // for a slice, without asking
		w.Client("a").Heal()
		in := other.get()
		require.NoError(w, r.Err())
		for _, r := range []*ReadLock{r, beside, in} {
			w.unlock(r.Unlock)
		}
		w.allGone()
	})
}

// The write that says that others may come in can be on its way when the reader wants to
// become a writer again: it must not take that back.
func TestAnUpgradeWaitsForTheDowngradeBeforeIt(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		l := w.write(a)
		w.next("a", simetcd.Txn, simetcd.Action{DropRequest: true}) // tried again after 3 s
		r, err := l.Downgrade(w.timeout(time.Second))
		require.NoError(w, err)
		up := start(w, r.Upgrade).get()
		w.pass(10 * time.Second)
		_, err = b.TryRLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		w.unlock(up.Unlock)
		w.allGone()
	})
}

func TestADowngradeOfWhatIsOverIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		l := w.write(a)
		w.unlock(l.Unlock)
		_, err := l.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrReleased)
		l = w.write(a)
		w.DeleteKey(l.Key())
		<-l.Done()
		_, err = l.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrEvicted)
		l = w.write(a)
		r := start(w, l.Downgrade).get()
		_, err = l.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrReleased)
		w.unlock(r.Unlock)
		w.allGone()
	})
}

func TestADowngradeIsRefusedWhileAHoldWithinIsHeld(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m", WithReentry(2))
		l := w.write(a)
		within, err := a.Lock(l.Context())
		require.NoError(w, err)
		_, err = l.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrReentryLimit)
		require.NoError(w, l.Err(), "it is held as before")
		w.unlock(within.Unlock)
		r := start(w, l.Downgrade).get()
		w.unlock(r.Unlock)
		w.allGone()
	})
}

// The key may have been deleted just before, which the holder does not know yet.
func TestADowngradeAtTheTimeOfALossEnds(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond} {
		simulate(t, func(w *world) {
			a := NewRWMutex(w.session("a"), "m")
			l := w.write(a)
			w.pass(time.Second) // the key is watched by now
			w.every("a", simetcd.Action{DelayReply: 400 * time.Millisecond}, simetcd.LeaseTimeToLive)
			w.DeleteKey(l.Key())
			time.Sleep(after)
			down := start(w, l.Downgrade)
			r, err := down.result()
			if err == nil {
				select {
				case <-r.Done():
				case <-time.After(2 * time.Minute):
					require.FailNow(w, "it is never told of the loss")
				}
				err = r.Err()
			}
			require.ErrorIs(w, err, ErrLost, "after %v", after)
			require.ErrorIs(w, err, ErrEvicted, "after %v", after)
			w.Intercept(nil)
			w.unlock(w.write(a).Unlock)
			w.allGone()
		})
	}
}

// A session that may not watch goes on by its lease, and a downgrade does not end the hold.
func TestADowngradeWithoutAWatch(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		l := w.write(a)
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Watch, simetcd.Range, simetcd.TxnReadOnly)
		w.pass(2 * time.Minute)
		require.NoError(w, l.Err())
		r := start(w, l.Downgrade).get()
		w.pass(2 * time.Minute)
		require.NoError(w, r.Err())
		w.unlock(start(w, b.RLock).get().Unlock)
		w.Intercept(nil)
		w.unlock(r.Unlock)
		w.empty("m")
		w.allGone()
	})
}

// A hold with a line of its own, as with deadlock detection, keeps its key when it is
// downgraded.
func TestADowngradeOfAHoldThatLinedUpByItself(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first := w.write(NewRWMutex(s, "m"))
		other := w.lock(NewMutex(s, "other"))
		m := NewRWMutex(s, "m", WithDeadlockDetection(""))
		wait := start(w, func(context.Context) (*WriteLock, error) { return m.Lock(other.Context()) })
		w.pass(time.Second)
		w.unlock(first.Unlock)
		l := wait.get()
		r := start(w, l.Downgrade).get()
		w.pass(5 * time.Second)
		writer := start(w, func(context.Context) (*WriteLock, error) { return m.Lock(other.Context()) })
		reader := start(w, NewRWMutex(s, "m").RLock)
		w.pass(5 * time.Second)
		require.NoError(w, r.Err())
		writer.isWaiting()
		w.unlock(r.Unlock)
		select {
		case <-reader.done: // before or after the writer
			w.unlock(reader.get().Unlock)
			w.unlock(writer.get().Unlock)
		case <-writer.done:
			w.unlock(writer.get().Unlock)
			w.unlock(reader.get().Unlock)
		}
		w.unlock(other.Unlock)
		w.allGone()
	})
}
