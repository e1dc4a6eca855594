package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// detecting is a session with crash detection on a network.
func (w *world) detecting(n *fakeNet, client, address string, opts ...SessionOption) *Session {
	w.Helper()
	return w.session(client, append([]SessionOption{
		WithCrashDetection(address), sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Network = n }),
	}, opts...)...)
}

// crash is what others see of kill -9: etcd hears nothing more, and the kernel closes.
func (w *world) crash(n *fakeNet, client, address string) {
	w.Client(client).Cut()
	n.kill(address)
}

func TestADeadLeaderIsReplacedAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		term := w.campaign(NewElection(a, "e"), "A")
		lock := w.lock(NewMutex(a, "other"))
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		after := w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400"), "e"), "C")
		w.pass(time.Minute)
		next.isWaiting()
		require.NoError(w, term.Err())

		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		leader := next.get()
		require.Less(w, next.at.Sub(died), 300*time.Millisecond)
		require.Nil(w, w.Get(lock.Key()), "all that it had is free")
		w.pass(time.Minute)
		after.isWaiting()

		died = time.Now()
		w.crash(n, "b", "10.0.0.2:7400")
		after.get()
		require.Less(w, after.at.Sub(died), 300*time.Millisecond)
		require.ErrorIs(w, term.Err(), ErrExpired, "by its own clock")
		_ = leader
	})
}

func TestTheNextOneInLineThatDiedWithTheLeaderIsPassedOverAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		w.campaign(NewElection(w.detecting(n, "a", "10.0.0.1:7400"), "e"), "A")
		w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		c := w.candidate(NewElection(w.detecting(n, "c", "10.0.0.3:7400"), "e"), "C")
		w.pass(time.Minute)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		w.crash(n, "b", "10.0.0.2:7400")
		c.get()
		require.Less(w, c.at.Sub(died), 500*time.Millisecond)
	})
}

// Only a refusal counts, and only where it means something.
func TestALeaderThatMayLiveIsLeftToItsTTL(t *testing.T) {
	const address = "10.0.0.1:7400"
	for name, c := range map[string]struct {
		address string
		happens func(w *world, n *fakeNet, a *Session)
	}{
		"it does not answer":    {address, func(_ *world, n *fakeNet, _ *Session) { n.setSilent(address, true); n.breakConns(address) }},
		"its connections break": {address, func(_ *world, n *fakeNet, _ *Session) { n.breakConns(address) }},
		"it says nothing of it": {"", func(*world, *fakeNet, *Session) {}},
		"another one's loopback": {"127.0.0.1:7400", func(w *world, n *fakeNet, a *Session) {
			w.PutKey(wire.LivenessKey(a.Lease()), `{"address":"127.0.0.1:7400","scope":"another machine"}`, a.Lease())
			w.pass(time.Second)
			n.kill("127.0.0.1:7400")
		}},
		"what it says cannot be read": {address, func(w *world, n *fakeNet, a *Session) {
			w.PutKey(wire.LivenessKey(a.Lease()), "{", a.Lease())
			n.kill(address)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				var a *Session
				if c.address == "" {
					a = w.session("a")
				} else {
					a = w.detecting(n, "a", c.address)
				}
				term := w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Minute)
				c.happens(w, n, a)
				w.pass(time.Minute)
				next.isWaiting()
				require.NoError(w, term.Err())
				require.Less(w, n.dialed, 120)
			})
		})
	}
}

func TestCrashDetectionIsOffUnlessBothSidesWantIt(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Minute)
		died := time.Now()
		w.crash(n, "a", "10.0.0.1:7400")
		next.get()
		require.Greater(w, next.at.Sub(died), ttl/2)
		require.Empty(w, w.Keys(wire.LivenessPrefix))
	})
}

// The listener goes on while the work of a term may: a session that is closed is no dead process.
func TestAProcessIsNotTakenForDeadWhileItsWorkStops(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		var returned time.Time
		run := w.run(NewElection(a, "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			returned = time.Now()
			return nil
		}, WithStopTimeout(time.Minute))
		run.term()
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		require.NoError(w, a.Close(w.ctx))
		next.get()
		require.False(w, next.at.Before(returned))
		_, err := run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		n.mu.Lock()
		defer n.mu.Unlock()
		require.Len(w, n.listeners, 1, "the leader's")
	})
}

func TestASessionThatDetectsCrashesLeavesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "A")
		w.RevokeLease(a.Lease()) // and it tells under the next one again
		w.pass(time.Minute)
		require.Len(w, w.Keys(wire.LivenessPrefix), 1)
		require.Equal(w, clientv3.LeaseID(w.Keys(wire.LivenessPrefix)[0].Lease), a.Lease())
		w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B").get()
		w.allGone()
		require.Empty(w, n.listeners)
	})
}

func TestCrashDetectionNeedsAnAddressThatOthersCanReach(t *testing.T) {
	simulate(t, func(w *world) {
		for _, address := range []string{"", "7400", ":7400", "0.0.0.0:7400", "[::]:7400"} {
			_, err := NewSession(w.ctx, w.Client("a").Client, WithCrashDetection(address))
			require.ErrorIs(w, err, ErrInvalidOption, address)
		}
		require.Empty(w, w.Leases())
	})
}
