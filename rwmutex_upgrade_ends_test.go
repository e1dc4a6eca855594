package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// The writer that was to be the bound gives up between the intent and its bound.
func TestAnUpgradeWhoseBoundGivesUp(t *testing.T) {
	for ms := range 12 {
		simulate(t, func(w *world) {
			a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
			r := w.read(a)
			writer := start(w, b.Lock)
			w.pass(time.Second)
			behind := start(w, c.RLock)
			w.pass(time.Second)
			up := start(w, r.Upgrade)
			time.Sleep(time.Duration(ms) * 500 * time.Microsecond)
			writer.cancel()
			w.pass(time.Second)
			alone := func(h hold) {
				w.Helper()
				require.NoError(w, h.Err())
			}
			select {
			case <-up.done:
				l := up.get()
				behind.isWaiting()
				alone(l.hold)
				w.unlock(l.Unlock)
				w.unlock(behind.get().Unlock)
			case <-behind.done: // it was in front of the mark, and is waited for
				up.isWaiting()
				alone(behind.get().hold)
				w.unlock(behind.get().Unlock)
				w.unlock(up.get().Unlock)
			}
			if l, err := writer.result(); err == nil {
				w.unlock(l.Unlock)
			}
			w.allGone()
		})
	}
}

func TestWhatEndsAnUpgrade(t *testing.T) {
	type scene struct {
		*world
		s *Session
		r *ReadLock
	}
	cases := map[string]struct {
		end  func(scene)
		told error
	}{
		"its own release": {func(s scene) { s.unlock(s.r.Unlock) }, ErrReleased},
		"an eviction":     {func(s scene) { s.DeleteKey(s.r.Key()) }, ErrEvicted},
		"an overwritten key": {func(s scene) {
			s.PutKey(s.r.Key(), "{}", s.s.Lease())
		}, ErrEvicted},
		"a revoked lease": {func(s scene) { s.RevokeLease(s.s.Lease()) }, ErrRevoked},
		"an expired lease": {func(s scene) {
			s.Client("a").Cut()
			s.pass(2 * ttl)
			s.Client("a").Heal()
		}, ErrExpired},
		"a close": {func(s scene) { require.NoError(s, s.s.Close(s.ctx)) }, ErrSessionClosed},
		"an orphan": {func(s scene) {
			id, err := s.s.Orphan(s.ctx)
			require.NoError(s, err)
			kv := s.Get(s.r.Key())
			require.NotNil(s, kv, "what is held is left")
			require.Contains(s, string(kv.Value), `"shared"`, "and as what it was")
			s.RevokeLease(id)
		}, ErrOrphaned},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				r := w.read(NewRWMutex(s, "m"))
				other := w.read(NewRWMutex(w.session("b"), "m"))
				up := start(w, r.Upgrade)
				w.pass(time.Second)
				up.isWaiting()
				test.end(scene{w, s, r})
				up.fails(test.told)
				if !errors.Is(test.told, ErrReleased) && !errors.Is(test.told, ErrSessionClosed) {
					require.ErrorIs(w, up.err, ErrLost)
				}
				w.pass(time.Second)
				require.ErrorIs(w, r.Err(), test.told)
				_, err := r.Upgrade(w.ctx)
				require.ErrorIs(w, err, test.told)
				w.unlock(start(w, NewRWMutex(w.session("c"), "m").RLock).get().Unlock) // others come in again
				w.unlock(other.Unlock)
				w.pass(time.Second)
				w.empty("m")
				w.allGone()
			})
		})
	}
}

// trap A4, of the mark: the answer is lost, or the request comes late, when the mark has been
// taken back.
func TestAnUpgradeWhoseRequestsAreNotAnswered(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"lost answer":  {DropReply: true},
		"lost request": {DropRequest: true},
		"late answer":  {DelayReply: 5 * time.Second},
		"late request": {DelayRequest: 5 * time.Second},
	} {
		for n := 1; n <= 3; n++ {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				simulate(t, func(w *world) {
					a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
					r, other := w.read(a), w.read(b)
					w.first(n, "a", simetcd.Txn, act)
					up := start(w, r.Upgrade)
					w.pass(time.Second)
					up.cancel()
					up.fails(context.Canceled)
					late := start(w, b.RLock).get() // the mark has been taken back
					w.pass(20 * time.Second)
					w.unlock(start(w, b.RLock).get().Unlock) // and no other one has come
					w.unlock(late.Unlock)
					w.unlock(other.Unlock)
					w.first(n, "a", simetcd.Txn, act)
					l := start(w, r.Upgrade).get()
					w.pass(20 * time.Second)
					_, err := b.TryRLock(w.ctx)
					require.ErrorIs(w, err, ErrLocked)
					require.NoError(w, l.Err())
					w.unlock(l.Unlock)
					w.pass(20 * time.Second)
					w.empty("m")
					w.allGone()
				})
			})
		}
	}
}

func TestAnUpgradeThatEtcdRefuses(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m")
		r := w.read(a)
		w.next("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		_, err := r.Upgrade(w.ctx)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		require.NoError(w, r.Err())
		w.unlock(start(w, r.Upgrade).get().Unlock)
		w.allGone()
	})
}

// A read lock that was taken under the context of a write lock is one already.
func TestAnUpgradeWithinAWriteLock(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m", WithReentry(2))
		l := w.write(a)
		r, err := a.RLock(l.Context())
		require.NoError(w, err)
		up := start(w, r.Upgrade).get()
		require.ErrorIs(w, r.Err(), ErrReleased)
		w.unlock(l.Unlock)
		require.NoError(w, up.Err())
		require.Len(w, w.Keys("m/"), 1)
		w.unlock(up.Unlock)
		w.empty("m")
		w.allGone()
	})
}

func TestAWriteLockUnderAReadLockIsADeadlock(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewRWMutex(w.session("a"), "m", WithReentry(2))
		r := w.read(a)
		_, err := a.Lock(r.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.ErrorContains(w, err, "use Upgrade")
		within, err := a.RLock(r.Context())
		require.NoError(w, err)
		w.unlock(r.Unlock)
		require.NoError(w, within.Err())
		w.unlock(within.Unlock)
		w.empty("m")
		w.allGone()
	})
}
