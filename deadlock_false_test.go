package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Any client may have written a value in etcd, by mistake or on purpose.
func TestValuesThatMakeNoSenseHarmNobody(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		x, y := w.lock(NewMutex(a, "x")), w.lock(NewMutex(b, "y"))
		for i, value := range []string{
			"", "{", "[]", "null", `{"holds":null}`, `{"holds":["","x","no slash"]}`, `{"holds":[17]}`,
			`{"holds":["stray/0","stray/1","stray/2"],"all":["stray","stray"]}`,
			`{"mode":"counted","permits":9223372036854775807,"limit":9223372036854775807}`,
			`{"mode":"counted","permits":-5,"limit":1}`, `{"mode":"upgrading","bound":-1}`, `{"mode":"upgrading","bound":9223372036854775807}`,
			`{"mode":"nonsense"}`, `{"mode":"shared","holds":["stray/3"]}`, `{"all":["a","b"],"holds":["stray/13"]}`,
			"\x00\xff", strings.Repeat(`{"holds":[`, 100),
		} {
			w.PutKey(fmt.Sprintf("stray/%d", i), value, clientv3.NoLease)
		}
		w.PutKey("no-queue", `{"holds":["stray/0"]}`, clientv3.NoLease)
		w.PutKey("/", `{"holds":["stray/0"]}`, clientv3.NoLease)
		_, err := a.Deadlocks(w.ctx, "")
		require.NoError(w, err)
		require.Empty(w, w.deadlocks(a, "x"))

		p := w.lockUnder(x.Context(), NewMutex(a, "y", WithDeadlockDetection("")))
		p.isWaiting()
		_, err = NewMutex(b, "x", WithDeadlockDetection("")).Lock(y.Context())
		require.ErrorIs(w, err, ErrDeadlock, "and the true one is found among them")
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))
		require.NoError(w, x.Unlock(w.ctx))
	})
}

func TestDeadlocksAmongManyWaitersAreFoundSoon(t *testing.T) {
	var kvs []string
	simulate(t, func(w *world) {
		a := w.session("a")
		for i := range 5000 {
			value := ""
			switch i % 3 {
			case 1:
				value = fmt.Sprintf(`{"holds":["other/%d"]}`, i)
			case 2:
				value = `{"mode":"counted","permits":1,"limit":2}`
			}
			w.PutKey(fmt.Sprintf("crowd/%d", i), value, clientv3.NoLease)
		}
		began := time.Now()
		require.Empty(w, w.deadlocks(a, "crowd"))
		require.Less(w, time.Since(began), time.Second) // of virtual time: one read
		w.PutKey("other/1", "", clientv3.NoLease)
		w.PutKey("other/x", `{"holds":["crowd/0"]}`, clientv3.NoLease)
		found, err := a.Deadlocks(w.ctx, "")
		require.NoError(w, err)
		require.Len(w, found, 1)
		require.Len(w, found[0], 2)
		for _, wait := range found[0] {
			kvs = append(kvs, wait.Waiter.Key)
		}
	})
	require.Equal(t, []string{"crowd/1", "other/x"}, kvs)
}

func TestDeadlocksTellsItsErrors(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		_, err := (*Session)(nil).Deadlocks(w.ctx, "x")
		require.ErrorIs(w, err, ErrSessionClosed)
		w.Client("a").Cut()
		_, err = s.Deadlocks(w.timeout(time.Second), "x")
		require.ErrorIs(w, err, context.DeadlineExceeded)
		w.Client("a").Heal()
		require.NoError(w, s.Close(w.ctx))
		_, err = s.Deadlocks(w.ctx, "x")
		require.ErrorIs(w, err, ErrSessionClosed)
	})
}

// The holds of a waiter can change while it waits: another goroutine releases a hold, which is handed
// over in memory. No call may be refused because of a former hold.
func TestWhatWasReleasedMeanwhileMakesNoDeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		long := WithTimeSlice(time.Hour)
		x := w.lock(NewMutex(a, "x", long))
		y := w.lock(NewMutex(b, "y"))
		sibling := start(w, NewMutex(a, "x", long).Lock)
		w.pass(100 * time.Millisecond)
		sibling.isWaiting()
		// Waits for y, and holds x; then x is unlocked, and the sibling would have the key.
		p := start(w, func(ctx context.Context) (*Lock, error) {
			return NewMutex(a, "y").Lock(local.Carry(ctx, local.CarriedBy(x.Context())))
		})
		w.pass(100 * time.Millisecond)
		p.isWaiting()
		require.NoError(w, x.Unlock(w.ctx))
		next := sibling.get()
		require.NotEqual(w, x.Token(), next.Token(), "not in memory while an entry in etcd names its holder")
		q := start(w, func(context.Context) (*Lock, error) {
			return NewMutex(b, "x", WithDeadlockDetection("")).Lock(y.Context())
		})
		w.pass(time.Second)
		q.isWaiting()
		require.Empty(w, w.deadlocks(a, ""))
		require.NoError(w, next.Unlock(w.ctx))
		require.NoError(w, q.get().Unlock(w.ctx))
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))
		w.allGone()
	})
}

// A reader's key stays for the other readers of the session; what the waiter's entry says is
// then written again.
func TestAReaderWhoHasLeftMakesNoDeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		m := NewRWMutex(a, "x", WithTimeSlice(time.Hour))
		r1, err := m.RLock(w.ctx)
		require.NoError(w, err)
		r2, err := m.RLock(w.ctx)
		require.NoError(w, err)
		require.Equal(w, r1.Key(), r2.Key())
		y := w.lock(NewMutex(b, "y"))
		p := start(w, func(ctx context.Context) (*Lock, error) {
			return NewMutex(a, "y").Lock(local.Carry(ctx, local.CarriedBy(r1.Context())))
		})
		w.pass(100 * time.Millisecond)
		p.isWaiting()
		require.NoError(w, r1.Unlock(w.ctx))
		w.pass(100 * time.Millisecond)
		p.isWaiting()
		q := start(w, func(context.Context) (*WriteLock, error) {
			return NewRWMutex(b, "x", WithDeadlockDetection("")).Lock(y.Context())
		})
		w.pass(time.Second)
		q.isWaiting()
		require.NoError(w, r2.Unlock(w.ctx))
		require.NoError(w, q.get().Unlock(w.ctx))
		require.NoError(w, y.Unlock(w.ctx))
		require.NoError(w, p.get().Unlock(w.ctx))
		w.allGone()
	})
}

// A waiter that gives up leaves its place to the next waiter of the local queue, but not its holds.
func TestWhoInheritsAPlaceDoesNotHoldWhatTheFirstOneHeld(t *testing.T) {
	for _, owner := range []string{"a", "other"} {
		simulate(t, func(w *world) {
			a, b := w.session("a"), w.session("b")
			x := w.lock(NewMutex(a, "x"))
			y, z := w.lock(NewMutex(b, "y")), w.lock(NewMutex(a, "z"))
			first := w.lockUnder(x.Context(), NewMutex(a, "y"))
			first.isWaiting()
			second := w.lockUnder(z.Context(), NewMutex(a, "y", WithOwner(owner)))
			second.isWaiting()
			place := w.Keys("y/")
			first.cancel()
			first.fails(context.Canceled)
			w.pass(100 * time.Millisecond)
			after := w.Keys("y/")
			require.Len(w, after, 2)
			require.Equal(w, place[len(place)-1].CreateRevision, after[len(after)-1].CreateRevision, "the place stays (trap A3)")
			q := start(w, func(context.Context) (*Lock, error) {
				return NewMutex(b, "x", WithDeadlockDetection("")).Lock(y.Context())
			})
			w.pass(time.Second)
			q.isWaiting()
			_, err := NewMutex(b, "z", WithDeadlockDetection("")).Lock(y.Context())
			require.ErrorIs(w, err, ErrDeadlock, "but what the second one holds")
			require.NoError(w, x.Unlock(w.ctx))
			require.NoError(w, q.get().Unlock(w.ctx))
			require.NoError(w, y.Unlock(w.ctx))
			require.NoError(w, second.get().Unlock(w.ctx))
			require.NoError(w, z.Unlock(w.ctx))
			w.allGone()
		})
	}
}
