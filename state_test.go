package etcdlock

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/session"
	"github.com/etcdlock/etcdlock/internal/states"
)

// Each legal edge between the states of a session is taken, and no other one.
func TestTheStatesOfASession(t *testing.T) {
	type edge struct{ from, to State }
	legal := make(map[edge]bool)
	for from, all := range session.States.Edges {
		for _, to := range all {
			legal[edge{State(from), State(to)}] = true
		}
	}
	taken := make(map[edge]bool)
	var mu sync.Mutex
	for name, script := range map[string]func(w *world, s *Session){
		"closed when it is connected": func(*world, *Session) {},
		"a short outage": func(w *world, s *Session) {
			w.Client("a").Cut()
			w.pass(ttl / 2)
			require.Equal(w, StateSuspended, s.State())
			w.Client("a").Heal()
			w.pass(ttl / 2)
			require.Equal(w, StateConnected, s.State())
		},
		"closed in a short outage": func(w *world, s *Session) {
			w.Client("a").Cut()
			w.pass(ttl / 2)
		},
		"a long outage": func(w *world, s *Session) {
			w.Client("a").Cut()
			w.pass(2 * ttl)
			require.Equal(w, StateLost, s.State())
			w.Client("a").Heal()
			w.pass(ttl)
			require.Equal(w, StateConnected, s.State())
		},
		"closed in a long outage": func(w *world, s *Session) {
			w.Client("a").Cut()
			w.pass(2 * ttl)
		},
		"an administrator": func(w *world, s *Session) {
			w.RevokeLease(s.Lease())
			w.pass(ttl)
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				var following sync.WaitGroup
				following.Go(func() {
					last := StateConnected
					for state := range s.States(w.ctx) {
						if state != last {
							mu.Lock()
							taken[edge{last, state}] = true
							mu.Unlock()
						}
						last = state
					}
				})
				w.pass(time.Second)
				script(w, s)
				_ = s.Close(w.cancelledContext())
				following.Wait()
			})
		})
	}
	require.Equal(t, legal, taken)
}

// In tests an illegal change of state panics, see TestMain.
func TestABugOfASessionEndsIt(t *testing.T) {
	refused := states.Refused
	states.Refused = func(error) {}
	defer func() { states.Refused = refused }()
	simulate(t, func(w *world) {
		core, logs := logged.New(zap.ErrorLevel)
		s := w.session("a", WithLogger(zap.New(core)))
		held := w.lock(NewMutex(s, "m"))
		other := w.lock(NewMutex(w.session("b"), "n"))
		waits := start(w, NewMutex(s, "n").Lock)
		w.pass(time.Second)

		for range 2 {
			s.engine.Fail(session.States.Check(session.StateLost, session.StateSuspended))
		}
		require.ErrorIs(w, held.Err(), ErrSessionClosed)
		waits.fails(ErrSessionClosed)
		w.pass(time.Millisecond)
		require.Equal(w, StateClosed, s.State())
		var edge *states.EdgeError
		for _, err := range []error{held.Err(), s.Err(), s.Close(w.ctx)} {
			require.ErrorAs(w, err, &edge)
			require.Equal(w, states.EdgeError{Of: "session", From: "lost", To: "suspended"}, *edge)
		}
		require.Equal(w, 1, logs.Len())
		require.NotNil(w, w.Get(held.Key()), "the lease is left to expire")
		w.pass(ttl + time.Second)
		require.Nil(w, w.Get(held.Key()))
		require.NoError(w, other.Unlock(w.ctx))
	})
}

// Each legal edge between the admissions of a lock manager is taken.
func TestTheAdmissionsOfALockManager(t *testing.T) {
	admission := func(s *Session) string { return s.manager.Snapshot().Admission }
	// drained returns a session with an unconfirmed release, and an Orphan that waits for it.
	drained := func(w *world) (*Session, *pending[clientv3.LeaseID]) {
		s := w.session("a")
		released := w.lock(NewMutex(s, "m"))
		require.Equal(w, "open", admission(s))
		w.Client("a").Cut()
		require.Error(w, released.Unlock(w.cancelledContext()))
		orphan := start(w, s.Orphan)
		orphan.isWaiting()
		require.Equal(w, "draining", admission(s))
		_, err := NewMutex(s, "n").Lock(w.ctx)
		require.ErrorIs(w, err, ErrOrphaned)
		return s, orphan
	}
	for name, script := range map[string]func(w *world){
		"a drain that succeeds": func(w *world) {
			s, orphan := drained(w)
			w.Client("a").Heal()
			require.NotZero(w, orphan.get())
			require.Equal(w, "closed", admission(s))
		},
		"two drains that fail": func(w *world) {
			s, first := drained(w)
			second := start(w, s.Orphan)
			second.isWaiting()
			first.cancel()
			first.fails(context.Canceled)
			require.Equal(w, "draining", admission(s), "of the second one")
			second.cancel()
			second.fails(context.Canceled)
			require.Equal(w, "open", admission(s))
			w.Client("a").Heal()
			w.lock(NewMutex(s, "n"))
			require.NoError(w, s.Close(w.ctx))
			require.Equal(w, "closed", admission(s))
		},
		"a Close during a drain": func(w *world) {
			s, orphan := drained(w)
			require.Error(w, s.Close(w.cancelledContext()))
			orphan.fails(ErrSessionClosed)
			require.Equal(w, "closed", admission(s))
		},
	} {
		t.Run(name, func(t *testing.T) { simulate(t, script) })
	}
}
