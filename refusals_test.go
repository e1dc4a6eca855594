package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// trap C12, E1, C18 and their like: what etcd refuses for good is told at once, and
// leaves nothing.
func TestWhatEtcdRefusesIsTold(t *testing.T) {
	denied := simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
	simulate(t, func(w *world) {
		w.every("x", denied, simetcd.LeaseGrant)
		_, err := NewSession(w.ctx, w.Client("x").Client)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)

		a, b := w.session("a"), w.session("b")
		w.every("a", denied, simetcd.Txn)
		for call, err := range calls(w.ctx, a, "m") {
			if call != "Queue" {
				require.ErrorIs(w, err, rpctypes.ErrPermissionDenied, call)
				require.ErrorContains(w, err, `"m"`)
			}
		}
		w.every("a", denied, simetcd.Range)
		require.ErrorIs(w, second(NewMutex(a, "m").Queue(w.ctx)), rpctypes.ErrPermissionDenied)

		held := w.lock(NewMutex(b, "m"))
		w.every("a", denied, simetcd.Range, simetcd.TxnReadOnly)
		wait := start(w, NewMutex(a, "m").Lock)
		wait.fails(rpctypes.ErrPermissionDenied)
		w.pass(100 * time.Millisecond)
		require.Len(w, w.Keys("m/"), 1, "its own is deleted again")

		w.every("a", denied, simetcd.Watch)
		wait = start(w, NewMutex(a, "m").Lock)
		w.pass(time.Minute)
		wait.isWaiting()
		require.NoError(w, held.Unlock(w.ctx))
		l := wait.get() // slower, but not at all unsafe
		w.pass(time.Minute)
		require.NoError(w, l.Err())
		require.NoError(w, l.Unlock(w.ctx))
		w.Intercept(nil)
		w.allGone()
	})
}

// What may not be deleted stays until its lease ends; the caller knows.
func TestARefusedUnlockIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Txn)
		require.ErrorIs(w, l.Unlock(w.ctx), rpctypes.ErrPermissionDenied)
		require.ErrorIs(w, l.Err(), ErrReleased)
		require.Len(w, w.Keys("m/"), 1)
		w.Intercept(nil)
		again := w.lock(NewMutex(s, "m")) // finds its own key
		require.Greater(w, again.Token(), l.Token())
		require.NoError(w, again.Unlock(w.ctx))
		w.allGone()
	})
}

// trap C18
func TestAHoldEndsWhenItsLeaseMayNotBeRenewed(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.LeaseKeepAlive)
		<-l.Done()
		require.ErrorIs(w, l.Err(), ErrExpired)
		w.pass(time.Second)
		w.Intercept(nil)
		require.NoError(w, w.lock(NewMutex(s, "m")).Unlock(w.ctx))
		w.pass(2 * ttl)
		w.allGone()
	})
}

func TestARefusedRevocationIsNoReasonToWait(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.LeaseRevoke)
		began := time.Now()
		require.ErrorIs(w, s.Close(w.timeout(time.Minute)), rpctypes.ErrPermissionDenied)
		require.Less(w, time.Since(began), time.Second)
		w.pass(ttl)
		require.Empty(w, w.Leases())
	})
}

// trap E1: a token that ran out is renewed by the client with the next try.
func TestATokenThatRanOutCostsNothing(t *testing.T) {
	for _, kind := range []simetcd.Kind{simetcd.Txn, simetcd.TxnReadOnly, simetcd.Watch, simetcd.Range, simetcd.LeaseKeepAlive} {
		for _, passing := range []error{rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCRequestTooManyRequests, unavailable} {
			t.Run(fmt.Sprint(kind, " ", status.Convert(passing).Message()), func(t *testing.T) {
				simulate(t, func(w *world) {
					s := w.session("a")
					held := w.lock(NewMutex(w.session("b"), "m"))
					w.first(3, "a", kind, simetcd.Action{Err: passing})
					place := start(w, NewMutex(s, "m").Lock)
					w.pass(30 * time.Second)
					place.isWaiting()
					require.NoError(w, held.Unlock(w.ctx))
					l := place.get()
					w.first(3, "a", kind, simetcd.Action{Err: passing})
					w.pass(2 * time.Minute)
					require.NoError(w, l.Err())
					w.first(3, "a", kind, simetcd.Action{Err: passing})
					require.NoError(w, l.Unlock(w.timeout(time.Minute)))
					w.Intercept(nil)
					w.pass(15 * time.Second)
					w.allGone()
				})
			})
		}
	}
}

// A server that comes back within the TTL costs no holder and no waiter anything;
// an Unlock meanwhile waits for it.
func TestARestartOfEtcdIsSatOut(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.lock(NewMutex(w.session("a"), "m"))
		b := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(time.Minute)
		w.Stop()
		unlock := start(w, func(ctx context.Context) (any, error) { return nil, a.Unlock(ctx) })
		w.pass(5 * time.Second)
		unlock.isWaiting()
		b.isWaiting()
		w.Start()
		unlock.get()
		require.NoError(w, b.get().Unlock(w.ctx))
		w.allGone()
	})
}

// While a leader hands over, etcd drops proposals with an error that it has no code for.
// That is "not now", and not the last word.
func TestAnErrorWithoutACodeIsAskedForAgain(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Txn || c.Kind == simetcd.LeaseGrant {
				return simetcd.Action{Err: status.Error(codes.Unknown, "raft proposal dropped")}
			}
			return simetcd.Action{}
		})
		unlock := start(w, func(ctx context.Context) (any, error) { return nil, l.Unlock(ctx) })
		lock := start(w, NewMutex(s, "n").Lock)
		created := start(w, func(ctx context.Context) (*Session, error) {
			return NewSession(ctx, w.Client("b").Client)
		})
		w.pass(time.Second)
		unlock.isWaiting()
		lock.isWaiting()
		created.isWaiting()
		w.Intercept(nil)
		unlock.get()
		require.NoError(w, lock.get().Unlock(w.ctx))
		require.NoError(w, created.get().Close(w.ctx))
		w.pass(15 * time.Second)
		w.allGone()
	})
}

// A key that etcd refuses to delete is tried again for as long as its lease lives.
func TestARefusedDeletionIsTriedAgain(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Txn)
		require.ErrorIs(w, l.Unlock(w.ctx), rpctypes.ErrPermissionDenied)
		w.pass(time.Minute)
		require.NotEmpty(w, w.Keys("m/"))
		w.Intercept(nil)
		w.pass(11 * time.Second)
		w.empty("m")
		require.NotEqual(w, clientv3.NoLease, s.Lease())
	})
}
