package etcdlock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report R11: a session with every option and everything under way on it, of which only the client is closed. The bubble
// fails if a goroutine stays.
func TestAClientThatIsClosedTakesEverythingOfItsSessionsAlong(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		path := filepath.Join(t.TempDir(), "lease")
		c := w.Client("a")
		s, err := NewSession(w.ctx, c.Client, // not one of those that the world closes
			WithTTL(ttl), WithMargin(2*time.Second), WithLockDelay(3*time.Second), WithLogger(zap.NewNop()), WithOwner("a"),
			WithForeignNames(), WithDeadlockDetection("cycles"), WithLeaseFile(path), WithCrashDetection("10.0.0.1:7400"),
			sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Network = n }), renewOn(c), writeOn(c), watchOn(c))
		require.NoError(w, err)
		b := w.detecting(n, "b", "10.0.0.2:7400")
		w.campaign(NewElection(b, "led by b"), "B")
		taken := w.lock(NewMutex(b, "taken"))

		held := w.lock(NewMutex(s, "held"))
		require.NoError(w, w.lock(NewMutex(s, "kept", WithRetention(time.Hour))).Unlock(w.ctx))
		require.NoError(w, w.lock(NewMutex(s, "resting")).Unlock(w.ctx))
		read, err := NewRWMutex(s, "read").RLock(w.ctx)
		require.NoError(w, err)
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		_, err = NewMutex(s, "unanswered").Lock(w.timeout(10 * time.Millisecond))
		require.ErrorIs(w, err, context.DeadlineExceeded)
		waits := []*pending[any]{
			start(w, func(ctx context.Context) (any, error) { return NewMutex(s, "taken").Lock(ctx) }),
			start(w, func(ctx context.Context) (any, error) { return NewElection(s, "led by b").Campaign(ctx, "A") }),
			start(w, func(ctx context.Context) (any, error) {
				return nil, s.Ask(ctx, "taken", "for a test")
			}),
			start(w, func(ctx context.Context) (any, error) {
				for _, err := range NewElection(s, "led by b").Observe(ctx) {
					if err != nil {
						return nil, err
					}
				}
				return nil, nil
			}),
			start(w, func(ctx context.Context) (any, error) {
				for range s.States(ctx) {
				}
				return nil, s.Err()
			}),
		}
		run := w.run(NewElection(s, "led by a", WithPriority(1), WithTakeover(time.Second)), nil,
			WithStopTimeout(time.Second), WithProgress(time.Hour), WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: func(context.Context) error { return nil }}))
		term := run.term()
		w.pass(time.Minute)
		for _, p := range waits {
			p.isWaiting()
		}

		require.NoError(w, c.Close())
		for _, p := range waits {
			p.fails(ErrSessionClosed)
		}
		_, err = run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		for _, h := range []hold{held.hold, read.hold} {
			require.ErrorIs(w, h.Err(), ErrClientClosed)
		}
		// The term is on a session of its own. Run resigns it if the other session is told first.
		if !errors.Is(term.Err(), ErrReleased) {
			require.ErrorIs(w, term.Err(), ErrClientClosed)
		}
		w.pass(time.Millisecond)
		require.False(w, n.listens("10.0.0.1:7400"))
		f, err := leasefile.Lock(w.timeout(time.Second), path, func() {})
		require.NoError(w, err)
		f.Close()
		require.NoError(w, taken.Unlock(w.ctx))
	})
}

// After its client is closed a process lives on, and the work of a term may go on under its lease until the deadline.
func TestAClientThatIsClosedDoesNotMakeItsProcessADeadOne(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		path := filepath.Join(t.TempDir(), "lease")
		a := w.detecting(n, "a", "10.0.0.1:7400", WithLeaseFile(path))
		var returned time.Time
		run := w.run(NewElection(a, "e"), func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			time.Sleep(5 * time.Second)
			returned = time.Now()
			return nil
		}, WithStopTimeout(time.Minute))
		term := run.term()
		own := term.engine
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		require.NoError(w, w.Client("a").Close())
		<-term.Done()
		w.pass(4 * time.Second)
		next.isWaiting()
		_, err := leasefile.Lock(w.timeout(100*time.Millisecond), own.Config().LeaseFile, func() {})
		require.ErrorIs(w, err, leasefile.ErrInUse)
		next.get()
		require.False(w, next.at.Before(returned))
		_, err = run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.False(w, n.listens("10.0.0.1:7400"))
	})
}
