package etcdlock

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// report L7
func TestDeadlocksOfNamesThatAreNotUTF8AreSeen(t *testing.T) {
	simulate(t, func(w *world) {
		detect := WithDeadlockDetection("\xfe")
		a, b := w.session("a"), w.session("b")
		la, lb := w.lock(NewMutex(a, "\xfe\xff/1")), w.lock(NewMutex(b, "\xfe\xff/2"))
		older := w.lockUnder(la.Context(), NewMutex(a, "\xfe\xff/2", detect))
		older.isWaiting()
		entries, err := NewMutex(a, "\xfe\xff/2").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, []string{la.Key()}, entries[1].Holds, "as it is in etcd")

		bounded, cancel := context.WithTimeout(lb.Context(), time.Minute)
		defer cancel()
		_, err = NewMutex(b, "\xfe\xff/1", detect).Lock(bounded)
		require.ErrorIs(w, err, ErrDeadlock)
		require.NoError(w, lb.Unlock(w.ctx))
		require.NoError(w, older.get().Unlock(w.ctx))
		require.NoError(w, la.Unlock(w.ctx))
		w.allGone()
	})
}

// report L7
func TestSeveralNamesThatAreNotUTF8AreOneWaiter(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		set := w.lockAll(a, "\xfe1", "\xff1")
		y := w.lock(NewMutex(b, "\xff2"))
		waits := w.lockUnder(y.Context(), NewMutex(b, "\xfe1"))
		both := start(w, func(context.Context) (*LockSet, error) {
			return NewMultiMutex(a, []string{"\xfe2", "\xff2"}).Lock(set.Context())
		})
		w.pass(time.Second)
		require.Len(w, w.deadlocks(a, ""), 1)
		waits.cancel()
		waits.fails(context.Canceled)
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, both.get().Unlock(w.ctx))
		require.NoError(w, set.Unlock(w.ctx))
		w.allGone()
	})
}

// report L7
func TestAHolderOfANameThatIsNotUTF8CanBeAskedToLetGo(t *testing.T) {
	simulate(t, func(w *world) {
		lock := w.lock(NewMutex(w.session("a"), "\xff"))
		asked := lock.Asked()
		asks := start(w, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, w.session("b").Ask(ctx, "\xff", "please")
		})
		select {
		case r := <-asked:
			require.Equal(w, "\xff", r.Name)
		case <-time.After(10 * time.Second):
			require.Fail(w, "it has not heard of it")
		}
		require.NoError(w, lock.Unlock(w.ctx))
		asks.get()
		w.allGone()
	})
}

// report L12
func TestNoErrorIsAsLongAsTheNameThatItQuotes(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b", WithForeignNames())
		long := strings.Repeat("n", 1<<18) // a request may have 1.5 MiB
		short := func(err error) {
			t.Helper()
			require.Error(w, err)
			require.Less(w, len(err.Error()), 2500)
		}
		held := w.lock(NewMutex(a, long))
		_, err := NewMutex(b, long).TryLock(w.ctx)
		short(err)
		_, err = NewMutex(a, long).TryLock(w.ctx)
		short(err)
		_, err = NewMutex(b, long).Lock(w.timeout(3 * time.Second))
		short(err)
		_, err = NewMutex(b, long+"/inner").Lock(w.timeout(time.Second))
		_ = err // the names nest, which the one inside cannot see
		_, err = NewMutex(a, long+"/inner").Lock(w.ctx)
		short(err)
		_, err = NewMultiMutex(a, []string{long, "other"}).TryLock(w.ctx)
		short(err)
		_, err = NewMultiMutex(a, []string{long, long}).Lock(w.ctx)
		short(err)
		_, err = NewMultiMutex(a, []string{long, long + "/x"}).Lock(w.ctx)
		short(err)
		_, err = NewMultiMutex(a, []string{long, "other"}).Lock(held.Context())
		short(err)
		for _, name := range []string{long + "/", long + "//x", long + "\x00"} {
			_, err = NewMutex(a, name).Lock(w.ctx)
			short(err)
			_, err = NewElection(a, name).Leader(w.ctx)
			short(err)
			short(a.Ask(w.ctx, name, ""))
		}
		_, err = NewElection(a, long).Campaign(held.Context(), "v")
		short(err)
		require.NoError(w, held.Unlock(w.ctx))
		short(held.Unlock(w.ctx))
		w.PutKey(long+"/in/1f", "", 0)
		_, err = NewMutex(a, long).TryLock(w.ctx)
		short(err)
		_, err = NewElection(a, "e").Campaign(w.ctx, "v")
		require.NoError(w, err)
		term, err := NewElection(b, "e2").Campaign(w.ctx, "v")
		require.NoError(w, err)
		short(term.Transfer(w.ctx, long))
		require.NoError(w, a.Close(w.ctx))
		_, err = NewMutex(a, long).Lock(w.ctx)
		short(err)
		_, err = a.Deadlocks(w.ctx, long)
		short(err)
		w.DeleteKey(long + "/in/1f")
	})
}
