package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// locked asserts that a call failed as the name was locked, and returns what it says of that.
func (w *world) locked(err error) *LockedError {
	w.Helper()
	require.ErrorIs(w, err, ErrLocked)
	var locked *LockedError
	require.ErrorAs(w, err, &locked)
	return locked
}

// report L3
func TestATryLockThatIsRefusedNamesTheHolderWithoutAFurtherRequest(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a", WithOwner("nightly")), w.session("b"), w.session("c")
		held := w.lock(NewMutex(a, "m"))
		waits := start(w, NewMutex(b, "m").Lock)
		w.pass(time.Second)

		var err error
		require.Equal(w, "1 Txn", requests(w.Client("c"), func() { _, err = NewMutex(c, "m").TryLock(w.ctx) }))
		locked := w.locked(err)
		require.True(w, locked.Known)
		require.Equal(w, held.Key(), locked.Holder.Key)
		require.Equal(w, "nightly", locked.Holder.Owner)
		require.Equal(w, ModeExclusive, locked.Holder.Mode)
		require.True(w, locked.Holder.Holding)
		require.ErrorContains(w, err, `locked by another holder: "nightly" on `)
		require.ErrorContains(w, err, held.Key())

		// A goroutine of this session is named from memory.
		require.Empty(w, requests(w.Client("a"), func() { _, err = NewMutex(a, "m").TryLock(w.ctx) }))
		locked = w.locked(err)
		require.True(w, locked.Known && locked.Holder.Holding)
		require.Equal(w, held.Key(), locked.Holder.Key)
		require.Equal(w, "nightly", locked.Holder.Owner)
		require.ErrorContains(w, err, "another goroutine of this session")
		_, err = NewMutex(b, "m").TryLock(w.ctx)
		require.False(w, w.locked(err).Known, "a goroutine of this session waits")

		// Several names.
		_, err = NewMultiMutex(c, []string{"free", "m"}).TryLock(w.ctx)
		require.Equal(w, held.Key(), w.locked(err).Holder.Key)

		// Of many it is not known without reading all of them.
		for range 20 {
			id := w.GrantLease(time.Minute)
			w.PutKey("m/"+wire.Hex(id), "", id)
		}
		_, err = NewMutex(c, "m").TryLock(w.ctx)
		require.False(w, w.locked(err).Known)
		require.True(w, strings.HasSuffix(err.Error(), "locked by another holder"), err)
		for _, kv := range w.Keys("m/") {
			if key := string(kv.Key); key != held.Key() {
				w.DeleteKey(key)
			}
		}
		waits.fails(ErrEvicted)
		require.NoError(w, held.Unlock(w.ctx))
	})
}

// report L3
func TestATryThatIsRefusedByReadersAndPermitsNamesWhoIsInTheWay(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		reader, err := NewRWMutex(a, "rw").RLock(w.ctx)
		require.NoError(w, err)
		_, err = NewRWMutex(b, "rw").TryLock(w.ctx)
		locked := w.locked(err)
		require.Equal(w, reader.Key(), locked.Holder.Key)
		require.Equal(w, ModeShared, locked.Holder.Mode)
		require.True(w, locked.Holder.Holding)

		writer := start(w, NewRWMutex(b, "rw").Lock)
		w.pass(time.Second)
		_, err = NewRWMutex(c, "rw").TryRLock(w.ctx)
		locked = w.locked(err)
		require.Equal(w, b.Lease(), locked.Holder.Lease, "the writer that waits, and not the reader that holds")
		require.False(w, locked.Holder.Holding)
		require.ErrorContains(w, err, "ahead in the queue")
		require.NoError(w, reader.Unlock(w.ctx))
		require.NoError(w, writer.get().Unlock(w.ctx))

		permit, err := NewSemaphore(a, "s", 3).Acquire(w.ctx, 2)
		require.NoError(w, err)
		_, err = NewSemaphore(b, "s", 3).TryAcquire(w.ctx, 2)
		locked = w.locked(err)
		require.Equal(w, permit.Key(), locked.Holder.Key)
		require.Equal(w, []any{ModeCounted, 2, 3, true},
			[]any{locked.Holder.Mode, locked.Holder.Permits, locked.Holder.Limit, locked.Holder.Holding})
		require.NoError(w, permit.Release(w.ctx))
		w.allGone()
	})
}

// report L3
func TestAWaitWhoseTimeIsOverNamesWhoIsAhead(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a", WithOwner("nightly")), w.session("b")
		held := w.lock(NewMutex(a, "m"))
		_, err := NewMutex(b, "m").Lock(w.timeout(5 * time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		locked := w.locked(err)
		require.True(w, locked.Known && locked.Holder.Holding)
		require.Equal(w, held.Key(), locked.Holder.Key)
		require.Equal(w, "nightly", locked.Holder.Owner)

		_, err = NewMutex(b, "m").Lock(w.timeout(200 * time.Millisecond)) // it has the watch of the wait before
		require.ErrorIs(w, err, context.DeadlineExceeded)
		locked = w.locked(err)
		require.False(w, locked.Known, "the transaction that enters reads keys only")
		require.Equal(w, held.Key(), locked.Holder.Key)

		// A cancelled caller gets only the error of its context.
		gives := start(w, NewMutex(b, "m").Lock)
		w.pass(2 * time.Second)
		gives.cancel()
		_, err = gives.result()
		require.ErrorIs(w, err, context.Canceled)
		require.NotErrorIs(w, err, ErrLocked)

		// Several goroutines of one session.
		_, err = NewMutex(a, "m").Lock(w.timeout(time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.Equal(w, held.Key(), w.locked(err).Holder.Key)

		// Several names at once, of which the second one is in the way.
		_, err = NewMultiMutex(b, []string{"free", "m"}).Lock(w.timeout(5 * time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.Equal(w, held.Key(), w.locked(err).Holder.Key)

		// Candidates.
		term, err := NewElection(a, "e").Campaign(w.ctx, "host-a")
		require.NoError(w, err)
		_, err = NewElection(b, "e").Campaign(w.timeout(5*time.Second), "host-b")
		locked = w.locked(err)
		require.Equal(w, ModeCandidate, locked.Holder.Mode)
		require.Equal(w, "host-a", string(locked.Holder.Value))
		require.ErrorContains(w, err, `"host-a"`)
		require.NoError(w, term.Resign(w.ctx))

		// While etcd is away nothing is known to be in the way.
		require.NoError(w, held.Unlock(w.ctx))
		w.pass(2 * time.Second)
		w.every("b", simetcd.Action{DropRequest: true}, simetcd.Txn)
		_, err = NewMutex(b, "m").Lock(w.timeout(5 * time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.NotErrorIs(w, err, ErrLocked)
		w.every("b", simetcd.Action{})
	})
}

// report L3
func TestAWaitInALongLineNamesTheOneNextAhead(t *testing.T) {
	simulate(t, func(w *world) {
		held := w.lock(NewMutex(w.session("holds"), "m"))
		for i := range 8 {
			start(w, NewMutex(w.session(fmt.Sprint("s", i)), "m").Lock)
			w.pass(50 * time.Millisecond)
		}
		_, err := NewMutex(w.session("last"), "m").Lock(w.timeout(15 * time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		locked := w.locked(err)
		require.True(w, locked.Known)
		require.Equal(w, "s7", locked.Holder.Owner)
		require.False(w, locked.Holder.Holding)
		require.NotEqual(w, held.Key(), locked.Holder.Key)
		require.ErrorContains(w, err, "ahead in the queue")
	})
}

// reports L3, P13
func TestAStrayKeyIsNamedInTheError(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		w.PutKey("m/state", "x", clientv3.NoLease)
		_, err := m.TryLock(w.ctx)
		require.True(w, w.locked(err).Holder.stray())
		require.ErrorContains(w, err, `the key "m/state" has no lease`)
		_, err = m.Lock(w.timeout(5 * time.Second))
		require.ErrorContains(w, err, `the key "m/state" has no lease`)
		w.DeleteKey("m/state")
	})
}

// report L3
func TestTheQueueSaysWhoHoldsAndHow(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		type seen struct {
			mode    Mode
			holding bool
		}
		look := func(entries []QueueEntry, err error) (all []seen) {
			w.Helper()
			require.NoError(w, err)
			for _, e := range entries {
				all = append(all, seen{e.Mode, e.Holding})
			}
			return all
		}
		r, err := NewRWMutex(a, "rw").RLock(w.ctx)
		require.NoError(w, err)
		r2, err := NewRWMutex(b, "rw").RLock(w.ctx)
		require.NoError(w, err)
		writer := start(w, NewRWMutex(c, "rw").Lock)
		w.pass(time.Second)
		require.Equal(w, []seen{{ModeShared, true}, {ModeShared, true}, {ModeExclusive, false}}, look(NewRWMutex(a, "rw").Queue(w.ctx)))
		_, err = r.Upgrade(w.timeout(5 * time.Second))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.Equal(w, r2.Key(), w.locked(err).Holder.Key, "the reader that is waited for")
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		require.Equal(w, []seen{{ModeUpgrading, false}, {ModeShared, true}, {ModeExclusive, false}}, look(NewRWMutex(a, "rw").Queue(w.ctx)))
		require.NoError(w, r2.Unlock(w.ctx))
		require.NoError(w, up.get().Unlock(w.ctx))
		require.NoError(w, writer.get().Unlock(w.ctx))

		p, err := NewSemaphore(a, "s", 2).Acquire(w.ctx, 1)
		require.NoError(w, err)
		p2 := start(w, func(ctx context.Context) (*Permit, error) { return NewSemaphore(b, "s", 2).Acquire(ctx, 2) })
		w.pass(time.Second)
		require.Equal(w, []seen{{ModeCounted, true}, {ModeCounted, false}}, look(NewSemaphore(a, "s", 2).Queue(w.ctx)))
		require.NoError(w, p.Release(w.ctx))
		require.NoError(w, p2.get().Release(w.ctx))

		term, err := NewElection(a, "e").Campaign(w.ctx, `{"owner":"json"}`)
		require.NoError(w, err)
		id := w.GrantLease(time.Minute)
		w.PutKey("e/"+wire.Hex(id), "", id) // of etcd's own lock
		require.Equal(w, []seen{{ModeCandidate, true}, {ModeForeign, false}}, look(NewMutex(a, "e").Queue(w.ctx)))
		w.DeleteKey("e/" + wire.Hex(id))
		require.NoError(w, term.Resign(w.ctx))
	})
}

// report L10
func TestTheErrorOfAnotherLimitSaysBothAndTheFleetChangesItsLimitByTheRecipe(t *testing.T) {
	simulate(t, func(w *world) {
		old, fresh := w.session("old"), w.session("new")
		had, err := NewSemaphore(old, "s", 5).Acquire(w.ctx, 1)
		require.NoError(w, err)
		_, err = NewSemaphore(fresh, "s", 3).Acquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLimitMismatch)
		var limit *LimitError
		require.ErrorAs(w, err, &limit)
		require.Equal(w, LimitError{Ours: 3, Theirs: 5}, *limit)
		require.ErrorContains(w, err, "in a rolling deploy use SetLimit")

		// The recipe: the smaller limit for all, then the new processes, then back to what each has.
		require.NoError(w, NewSemaphore(old, "s", 5).SetLimit(w.ctx, 3))
		for range 2 {
			a, err := NewSemaphore(fresh, "s", 3).Acquire(w.ctx, 1)
			require.NoError(w, err, "beside those of before")
			b, err := NewSemaphore(old, "s", 5).Acquire(w.ctx, 1)
			require.NoError(w, err, "those of before go on")
			require.NoError(w, a.Release(w.ctx))
			require.NoError(w, b.Release(w.ctx))
		}
		require.NoError(w, had.Release(w.ctx))
		require.NoError(w, old.Close(w.ctx))
		require.NoError(w, NewSemaphore(fresh, "s", 3).SetLimit(w.ctx, 0))
		all, err := NewSemaphore(fresh, "s", 3).Acquire(w.ctx, 3)
		require.NoError(w, err)
		require.NoError(w, all.Release(w.ctx))
		w.allGone()
	})
}

// report L3
func TestTheErrorOfADeadlockHasTheCycle(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		la, lb := w.lock(NewMutex(a, "x/1")), w.lock(NewMutex(b, "x/2"))
		older := w.lockUnder(la.Context(), NewMutex(a, "x/2"))
		_, err := NewMutex(b, "x/1", WithDeadlockDetection("x/")).Lock(lb.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		var deadlock *DeadlockError
		require.ErrorAs(w, err, &deadlock)
		require.Len(w, deadlock.Cycle, 2)
		require.Equal(w, la.Key(), deadlock.Cycle[0].For.Key)
		require.True(w, deadlock.Cycle[0].For.Holding)
		require.False(w, deadlock.Cycle[0].Waiter.Holding)
		require.ErrorContains(w, err, deadlock.Cycle.String())
		require.NoError(w, lb.Unlock(w.ctx))
		l := older.get()

		// A hold of the context itself.
		deadlock = nil
		_, err = NewElection(a, "x/1").Campaign(la.Context(), "v")
		require.ErrorAs(w, err, &deadlock)
		require.Len(w, deadlock.Cycle, 1)
		require.Equal(w, la.Key(), deadlock.Cycle[0].For.Key)
		require.True(w, deadlock.Cycle[0].For.Holding)
		require.Equal(w, ModeCandidate, deadlock.Cycle[0].Waiter.Mode)
		require.Contains(w, deadlock.Cycle[0].Waiter.Holds, la.Key())
		require.ErrorContains(w, err, la.Key())
		_, err = NewMultiMutex(a, []string{"x/1"}).TryLock(la.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.Equal(w, la.Key(), w.locked(err).Holder.Key)
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, la.Unlock(w.ctx))
	})
}
