package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A wait that sleeps until its deadline names the holder in its error, though others have held and left
// meanwhile. It reads nothing before that.
func TestTheErrorOfAMarkedWaitNamesTheHolder(t *testing.T) {
	simulate(t, func(w *world) {
		var locks []*pending[*Lock]
		for _, name := range []string{"a", "b", "c"} {
			locks = append(locks, start(w, NewMutex(w.session(name, marks()), "m").Lock))
			w.pass(20 * time.Millisecond)
		}
		m, began := NewMutex(w.session("last", marks()), "m"), time.Now()
		last := start(w, func(context.Context) (*Lock, error) { return m.Lock(w.timeout(900 * time.Millisecond)) })
		w.pass(20 * time.Millisecond)
		for i := range 2 {
			require.NoError(w, locks[i].get().Unlock(w.ctx))
		}
		held := locks[2].get()
		w.Client("last").ResetCounts()
		w.pass(800 * time.Millisecond)
		require.Zero(w, w.Client("last").Count())
		_, err := last.result()
		require.Equal(w, 900*time.Millisecond, time.Since(began), "it ends at its deadline")
		locked := w.locked(err)
		require.True(w, locked.Known)
		require.Equal(w, held.Key(), locked.Holder.Key)
		require.True(w, locked.Holder.Holding)
		require.Equal(w, "c", locked.Holder.Owner)
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

// Another goroutine of the session has asked before, and another session holds since then.
func TestTheErrorOfAMarkedWaitNamesNoFormerHolder(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.lock(NewMutex(w.session("a", marks()), "m")), start(w, NewMutex(w.session("b", marks()), "m").Lock)
		w.pass(20 * time.Millisecond)
		m := NewMutex(w.session("last", marks()), "m")
		early := start(w, func(context.Context) (*Lock, error) { return m.Lock(w.timeout(300 * time.Millisecond)) })
		w.pass(20 * time.Millisecond)
		late := start(w, func(context.Context) (*Lock, error) { return m.Lock(w.timeout(600 * time.Millisecond)) })
		_, err := early.result()
		require.Equal(w, a.Key(), w.locked(err).Holder.Key)
		require.NoError(w, a.Unlock(w.ctx))
		held := b.get()
		_, err = late.result()
		require.Equal(w, held.Key(), w.locked(err).Holder.Key)
		require.NoError(w, held.Unlock(w.ctx))
	})
}

// etcd does not answer in time. The wait ends at its deadline, and names no entry.
func TestAMarkedWaitDoesNotWaitForTheNameOfTheHolder(t *testing.T) {
	simulate(t, func(w *world) {
		held := w.lock(NewMutex(w.session("a", marks()), "m"))
		m, began := NewMutex(w.session("b", marks()), "m"), time.Now()
		last := start(w, func(context.Context) (*Lock, error) { return m.Lock(w.timeout(500 * time.Millisecond)) })
		w.pass(100 * time.Millisecond)
		w.every("b", simetcd.Action{DelayReply: time.Minute}, simetcd.Range)
		_, err := last.result()
		require.Equal(w, 500*time.Millisecond, time.Since(began))
		require.False(w, w.locked(err).Known)
		require.NoError(w, held.Unlock(w.ctx))
	})
}

// A wait that is granted by a message has read no entry ahead, unless for its error. That one has left since then.
func TestAMarkedWaitLearnsNoSpanOfAnEntryThatHasLeft(t *testing.T) {
	simulate(t, func(w *world) {
		spanned := func(n int, client string) (*Session, *spans) {
			s := &spans{session: n}
			return w.session(client, marks(), WithTrace(s.trace())), s
		}
		a, _ := spanned(1, "a")
		b, _ := spanned(2, "b")
		c, seen := spanned(3, "c")
		first := w.lock(NewMutex(a, "m"))
		second := start(w, NewMutex(b, "m").Lock)
		w.pass(20 * time.Millisecond)
		third := start(w, func(context.Context) (*Lock, error) { return NewMutex(c, "m").Lock(w.timeout(500 * time.Millisecond)) })
		w.pass(460 * time.Millisecond)
		require.NoError(w, first.Unlock(w.ctx))
		require.NoError(w, second.get().Unlock(w.ctx))
		require.NoError(w, third.get().Unlock(w.ctx))
		require.Empty(w, seen.last())
	})
}
