package etcdlock

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A helper over all kinds takes a Held.
func TestEachHandleIsHeld(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		write, err := NewRWMutex(s, "write").Lock(w.ctx)
		require.NoError(w, err)
		term, err := NewElection(s, "term").Campaign(w.ctx, "v")
		require.NoError(w, err)
		lock, read, permit, set := w.lock(NewMutex(s, "lock")), w.read(NewRWMutex(s, "read")), w.acquire(NewSemaphore(s, "permit", 2), 1), w.lockAll(s, "x", "y")
		all := map[Held]func(context.Context) error{
			lock: lock.Unlock, write: write.Unlock, read: read.Unlock, permit: permit.Release, term: term.Resign, set: set.Unlock,
		}
		ended := func(h Held) bool {
			select {
			case <-h.Done():
				return true
			default:
				return false
			}
		}
		until := lock.Deadline()
		for h, release := range all {
			require.NoError(w, h.Err())
			require.Positive(w, h.Token())
			require.WithinDuration(w, until, h.Deadline(), time.Second, "one lease")
			require.False(w, ended(h))
			w.unlock(release)
			require.ErrorIs(w, h.Err(), ErrReleased)
			require.ErrorIs(w, context.Cause(h.Context()), ErrReleased)
			require.Zero(w, h.Deadline())
			require.True(w, ended(h))
		}
		type single interface {
			Held
			Name() string
			Key() string
			CreateRevision() int64
			Guard() clientv3.Cmp
		}
		for name, h := range map[string]single{"lock": lock, "write": write, "read": read, "permit": permit, "term": term} {
			require.Equal(w, name, h.Name())
			require.ErrorIs(w, all[h](w.ctx), ErrReleased)
			require.ErrorContains(w, all[h](w.ctx), name)
		}
		w.allGone()
	})
}

// A hold within that of a set has the one name that was asked for.
func TestTheNameOfAHoldWithinASet(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		set := w.lockAll(s, "x", "y")
		y, err := NewMutex(s, "y", WithReentry(2)).Lock(set.Context())
		require.NoError(w, err)
		require.Equal(w, "y", y.Name())
		require.Equal(w, set.Keys()[1], y.Key())
		w.unlock(y.Unlock)
		require.ErrorContains(w, y.Unlock(w.ctx), `"y"`)
		w.unlock(set.Unlock)
	})
}

// A program cannot take a handle apart: l.Hold = nil compiled.
func TestNoHandleHasAnExportedField(t *testing.T) {
	for _, h := range []Held{&Lock{}, &WriteLock{}, &ReadLock{}, &Permit{}, &Term{}, &LockSet{}} {
		for i, typ := 0, reflect.TypeOf(h).Elem(); i < typ.NumField(); i++ {
			require.False(t, typ.Field(i).IsExported(), "%s.%s", typ, typ.Field(i).Name)
		}
	}
}
