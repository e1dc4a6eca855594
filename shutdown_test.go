package etcdlock

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// cancelledContext is that of a process that SIGTERM has told to end.
func (w *world) cancelledContext() context.Context {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	return ctx
}

// report R6
func TestACloseUnderAContextThatHasEndedReleasesEverything(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		w.lock(NewMutex(a, "m"))
		next := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(time.Second)
		began := time.Now()
		require.NoError(w, a.Close(w.cancelledContext()))
		next.get()
		require.Less(w, next.at.Sub(began), 100*time.Millisecond)
	})
}

// report R6
func TestACloseUnderAContextThatHasEndedTakesASecondAtMost(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		w.lock(NewMutex(a, "m"))
		w.Client("a").Cut()
		began := time.Now()
		err := a.Close(w.cancelledContext())
		require.ErrorIs(w, err, context.Canceled)
		require.Equal(w, time.Second, time.Since(began))
		require.ErrorContains(w, err, "left to expire")
		began = time.Now()
		require.NoError(w, a.Close(w.cancelledContext()), "a second one")
		require.Zero(w, time.Since(began))
	})
}

// report R6
func TestAnOrphanUnderAContextThatHasEndedLeavesTheLease(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400") // its end is told to others first
		held := w.lock(NewMutex(a, "m"))
		released := w.lock(NewMutex(a, "n"))
		w.next("a", simetcd.Txn, simetcd.Action{DelayReply: 500 * time.Millisecond})
		require.ErrorIs(w, released.Unlock(w.cancelledContext()), context.Canceled) // what Orphan waits for
		began := time.Now()
		id, err := a.Orphan(w.cancelledContext())
		require.NoError(w, err)
		require.LessOrEqual(w, time.Since(began), time.Second)
		require.NotNil(w, w.Get(held.Key()))
		require.Nil(w, w.Get(released.Key()))
		resumed := w.lock(NewMutex(w.session("a2", WithLease(id)), "m"))
		require.Equal(w, held.Key(), resumed.Key())

		c := w.session("c")
		unlocked := w.lock(NewMutex(c, "c"))
		w.Client("c").Cut()
		require.Error(w, unlocked.Unlock(w.cancelledContext()))
		began = time.Now()
		_, err = c.Orphan(w.cancelledContext())
		require.ErrorIs(w, err, context.Canceled)
		require.Equal(w, time.Second, time.Since(began))
		require.NoError(w, c.Err(), "the session goes on")
	})
}

// report R7
func TestADedicatedSessionDoesNotCutTheLockDelayShort(t *testing.T) {
	const delay = 30 * time.Second
	for name, opts := range map[string][]RunOption{"": nil, "on a lease of its own": {WithStopTimeout(time.Minute)}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a", WithLockDelay(delay))
				run := w.run(NewElection(a, "e"), nil, opts...)
				term := run.term()
				next := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(time.Second)
				w.Client("a").Cut()
				<-term.Done()
				lost := time.Now()
				require.ErrorIs(w, term.Err(), ErrExpired)
				run.cancel()
				w.pass(time.Second)
				w.Client("a").Heal()
				_, err := run.result()
				require.Error(w, err)
				require.NoError(w, a.Close(w.ctx))
				next.get()
				require.GreaterOrEqual(w, next.at.Sub(lost), delay)
			})
		})
	}
}

// report R7: all ways in which a session ends give up what it has in its process.
func TestASessionThatHasEndedHasNothingInItsProcess(t *testing.T) {
	for name, end := range map[string]func(w *world, s *Session){
		"Close":              func(w *world, s *Session) { require.NoError(w, s.Close(w.ctx)) },
		"Orphan":             func(w *world, s *Session) { w.orphan(s) },
		"Close without etcd": func(w *world, s *Session) { w.Client("a").Cut(); require.Error(w, s.Close(w.cancelledContext())) },
		"client closed":      func(w *world, _ *Session) { require.NoError(w, w.Client("a").Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				path := filepath.Join(t.TempDir(), "lease")
				a := w.detecting(n, "a", "10.0.0.1:7400", WithLeaseFile(path))
				w.lock(NewMutex(a, "m"))
				end(w, a)
				<-a.Done()
				w.pass(time.Millisecond)
				n.mu.Lock()
				listens := len(n.listeners)
				n.mu.Unlock()
				require.Zero(w, listens)
				f, err := leasefile.Lock(w.timeout(time.Second), path, func() {})
				require.NoError(w, err)
				f.Close()
			})
		})
	}
}

// loseLease has the session lose its lease, which etcd keeps for another TTL, and grant another.
func (w *world) loseLease(client string, s *Session) {
	w.Helper()
	w.Client(client).Cut()
	for s.State() != StateLost {
		w.pass(10 * time.Millisecond)
	}
	w.NewLeader() // grants each lease all of its TTL again
	w.Client(client).Heal()
	for s.State() != StateConnected {
		w.pass(10 * time.Millisecond)
	}
}

func TestOrphanRevokesTheLeaseThatWasLostBefore(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		w.lock(NewMutex(a, "m"))
		w.loseLease("a", a)
		require.Len(w, w.Leases(), 2, "the lost lease is to be revoked after the margin")
		id := w.orphan(a)
		require.Equal(w, []clientv3.LeaseID{id}, w.Leases())
		require.Empty(w, w.Keys(""))
	})
}

// The request that revokes the first one hangs while the second one is lost.
func TestCloseRevokesEachLeaseThatWasLostBefore(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		w.every("a", simetcd.Action{DropRequest: true}, simetcd.LeaseRevoke)
		for range 2 {
			w.loseLease("a", a)
		}
		require.Len(w, w.Leases(), 3)
		w.Intercept(nil)
		require.NoError(w, a.Close(w.ctx))
		require.Empty(w, w.Leases())
	})
}
