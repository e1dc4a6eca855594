package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// marks has a session mark all plain entries, as it does in a long queue.
func marks() SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = -1 })
}

// inboxes returns how many inboxes stand beside the queue of a name.
func (w *world) inboxes(name string) int { return len(w.Keys(name + "\x00turn/")) }

// A session has an inbox beside a queue while it uses the name. The last entry deletes it in the
// transaction of its release, and a session that leaves while others wait does so a second later.
func TestAnInboxGoesWhenItsNameIsUsedNoMore(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a", marks()), "m"), NewMutex(w.session("b", marks()), "m")
		for range 2 {
			first := w.lock(a)
			next := start(w, b.Lock)
			next.isWaiting()
			w.pass(100 * time.Millisecond)
			require.Equal(w, 2, w.inboxes("m"))
			require.NoError(w, first.Unlock(w.ctx))
			second := next.get()
			w.pass(1100 * time.Millisecond)
			require.Equal(w, 1, w.inboxes("m"), "of the one that is away")
			require.NoError(w, second.Unlock(w.ctx))
			require.Zero(w, w.inboxes("m"))
		}
		w.pass(2 * time.Second)
		require.Empty(w, w.Keys(""))
		require.Zero(w, a.session.manager.Snapshot().Queues)
		w.allGone()
	})
}

// A caller comes while the inbox is deleted. It enters with another one.
func TestACallerComesWhileAnInboxIsDeleted(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a", marks()), "m"), NewMutex(w.session("b", marks()), "m")
		first := w.lock(a)
		next := start(w, b.Lock)
		w.pass(100 * time.Millisecond)
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn {
				return simetcd.Action{DelayReply: 300 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		require.NoError(w, first.Unlock(w.ctx))
		second := next.get()
		for w.inboxes("m") == 2 {
			w.pass(10 * time.Millisecond)
		}
		again := start(w, a.Lock)
		again.isWaiting()
		w.pass(time.Second)
		w.Intercept(nil)
		require.Equal(w, 2, w.inboxes("m"))
		require.NoError(w, second.Unlock(w.ctx))
		require.NoError(w, again.get().Unlock(w.ctx))
		w.pass(3 * time.Second)
		require.Empty(w, w.Keys(""))
		w.allGone()
	})
}

// Orphan leaves the keys of what is held, and nothing else.
func TestOrphanLeavesNoInbox(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", marks())
		held := w.lock(NewMutex(s, "m"))
		other := w.lock(NewMutex(s, "n"))
		require.NoError(w, other.Unlock(w.ctx))
		require.Equal(w, 1, w.inboxes("m"))
		lease := w.orphan(s)
		require.Len(w, w.Keys(""), 1)
		require.NotNil(w, w.Get(held.Key()))
		heir := w.session("b", WithLease(lease))
		require.NoError(w, heir.Close(w.ctx))
		w.allGone()
	})
}

// A process was killed after a release, and its successor deletes what it does not go on with.
func TestTheInboxOfAFormerProcessIsDeletedWithItsKeys(t *testing.T) {
	simulate(t, func(w *world) {
		s, other := w.session("a", marks()), w.session("c", marks())
		held := w.lock(NewMutex(s, "m"))
		next := start(w, NewMutex(other, "m").Lock)
		w.pass(10 * time.Millisecond)
		require.NoError(w, held.Unlock(w.ctx))
		w.Client("a").Cut() // a session that lives on deletes its inbox itself, after a second
		heir := w.session("b", WithLease(s.Lease()))
		require.Equal(w, 2, w.inboxes("m"))
		require.NoError(w, heir.ReleaseAdopted(w.ctx))
		require.Equal(w, 1, w.inboxes("m"))
		require.NoError(w, next.get().Unlock(w.ctx))
		require.NoError(w, heir.Close(w.ctx))
	})
}

// An entry comes after it was given up, with its inbox.
func TestTheSweeperDeletesAnInboxToo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", marks())
		held := w.lock(NewMutex(w.session("b"), "m"))
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn {
				return simetcd.Action{DelayRequest: 5 * time.Second}
			}
			return simetcd.Action{}
		})
		waiting := start(w, NewMutex(s, "m").Lock)
		w.pass(100 * time.Millisecond)
		waiting.cancel()
		_, err := waiting.result()
		require.Error(w, err)
		w.Intercept(nil)
		w.pass(2 * time.Minute)
		require.Len(w, w.Keys(""), 1)
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

// The keys of a closed session go with its lease, which tells no entry. So those behind look for themselves.
func TestAWaiterBehindASessionThatIsClosedIsGrantedAtOnce(t *testing.T) {
	for _, waits := range []bool{true, false} {
		simulate(t, func(w *world) {
			a, b, c := w.session("a", marks()), w.session("b", marks()), w.session("c", marks())
			held := w.lock(NewMutex(a, "m"))
			second := start(w, NewMutex(b, "m").Lock)
			w.pass(10 * time.Millisecond)
			third := start(w, NewMutex(c, "m").Lock)
			w.pass(10 * time.Millisecond)
			if waits { // one that waits is closed as well
				require.NoError(w, b.Close(w.ctx))
				second.fails(ErrSessionClosed)
				second = third
			}
			began := time.Now()
			require.NoError(w, a.Close(w.ctx))
			require.Error(w, held.Err())
			require.NoError(w, second.get().Unlock(w.ctx))
			if !waits {
				require.NoError(w, third.get().Unlock(w.ctx))
			}
			require.Less(w, time.Since(began), 200*time.Millisecond)
			w.allGone()
		})
	}
}
