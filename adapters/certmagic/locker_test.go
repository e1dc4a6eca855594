package certmagiclock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	*testing.T
	*simetcd.Server
	logs *observer.ObservedLogs
}

// simulate runs a test on an etcd in memory, in virtual time.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		srv := simetcd.New(simetcd.Config{Seed: 1, Logger: zap.New(core)})
		defer srv.Close()
		test(&world{t, srv, logs})
	})
}

func (w *world) session(client string) *etcdlock.Session {
	w.Helper()
	s, err := etcdlock.NewSession(w.Context(), w.Client(client).Client)
	require.NoError(w, err)
	w.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// lock calls Lock in a goroutine.
func (w *world) lock(ctx context.Context, l *Locker, name string) <-chan error {
	locked := make(chan error, 1)
	go func() { locked <- l.Lock(ctx, name) }()
	time.Sleep(10 * time.Millisecond) // it waits now
	synctest.Wait()
	return locked
}

const name = "issue_cert_example.com"

func TestLockWaitsForOtherProcessesAndForTheOwn(t *testing.T) {
	simulate(t, func(w *world) {
		ctx := w.Context()
		a, b := New(w.session("a")), New(w.session("b"))
		require.NoError(w, a.Lock(ctx, name))
		ok, err := b.TryLock(ctx, name)
		require.NoError(w, err)
		require.False(w, ok)
		first, second := w.lock(ctx, b, name), w.lock(ctx, a, name)
		time.Sleep(time.Minute)
		require.Empty(w, first)
		require.Empty(w, second)
		require.NoError(w, a.RenewLockLease(ctx, name, time.Hour))
		require.ErrorIs(w, b.RenewLockLease(ctx, name, time.Hour), ErrNotLocked)

		require.NoError(w, a.Unlock(ctx, name))
		require.NoError(w, <-first)
		require.Empty(w, second)
		require.Greater(w, b.Held(name).Token(), int64(0))
		require.NoError(w, b.Unlock(ctx, name))
		require.NoError(w, <-second)
		require.NoError(w, a.Unlock(ctx, name))
		require.ErrorIs(w, a.Unlock(ctx, name), ErrNotLocked)
		require.Empty(w, w.Keys(""))

		ok, err = a.TryLock(ctx, name)
		require.NoError(w, err)
		require.True(w, ok)
		require.NoError(w, a.Unlock(ctx, name))
	})
}

func TestLockHonoursItsContext(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := New(w.session("a")), New(w.session("b"))
		require.NoError(w, a.Lock(w.Context(), name))
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		require.ErrorIs(w, b.Lock(ctx, name), context.DeadlineExceeded)
		require.ErrorIs(w, b.Unlock(w.Context(), name), ErrNotLocked)
		time.Sleep(time.Second)
		require.Len(w, w.Keys(""), 1)
	})
}

func TestNamesMayHaveSlashes(t *testing.T) {
	simulate(t, func(w *world) {
		ctx := w.Context()
		l := New(w.session("a"), WithPrefix("tls"))
		for _, name := range []string{"acme", "acme/ca.example/", "acme//x", "%2F"} {
			require.NoError(w, l.Lock(ctx, name), name)
		}
		require.Len(w, w.Keys("tls/"), 4)
		require.ErrorIs(w, l.Lock(ctx, ""), etcdlock.ErrInvalidName)
	})
}

// A server that dies must not keep the others from renewing.
func TestTheLockOfADeadProcessIsFreeAfterTheTTL(t *testing.T) {
	simulate(t, func(w *world) {
		ctx := w.Context()
		a, b := New(w.session("a")), New(w.session("b"))
		require.NoError(w, a.Lock(ctx, name))
		w.Client("a").Cut()
		began := time.Now()
		require.NoError(w, b.Lock(ctx, name))
		require.LessOrEqual(w, time.Since(began), etcdlock.DefaultTTL+time.Second)

		// The stopped server notices the loss at its next attempt, and gives up.
		require.ErrorIs(w, a.RenewLockLease(ctx, name, time.Hour), etcdlock.ErrExpired)
		require.NoError(w, a.Unlock(ctx, name), "there is nothing to release")
		require.Len(w, w.logs.FilterMessageSnippet("a lock was lost").All(), 1)
		w.Client("a").Heal()
	})
}

func TestAWaitGoesOnOverALossOfTheLease(t *testing.T) {
	simulate(t, func(w *world) {
		ctx := w.Context()
		s := w.session("b")
		a, b := New(w.session("a")), New(s)
		require.NoError(w, a.Lock(ctx, name))
		waiting := w.lock(ctx, b, name)
		w.RevokeLease(s.Lease())
		time.Sleep(time.Minute)
		require.Empty(w, waiting)
		require.Len(w, w.Keys(""), 2)
		require.NoError(w, a.Unlock(ctx, name))
		require.NoError(w, <-waiting)

		waiting = w.lock(ctx, a, name)
		require.NoError(w, b.session.Close(ctx))
		require.NoError(w, <-waiting)
		require.ErrorIs(w, b.Lock(ctx, name), etcdlock.ErrSessionClosed)
		require.NoError(w, b.Unlock(ctx, name), "Close has released it")
	})
}

// trap A8
func TestALateUnlockDoesNotReleaseALaterLock(t *testing.T) {
	simulate(t, func(w *world) {
		ctx := w.Context()
		l, stranger := New(w.session("a")), New(w.session("b"))
		require.NoError(w, l.Lock(ctx, name)) // by one goroutine, which loses it
		w.DeleteKey(l.Held(name).Key())
		time.Sleep(time.Second)
		require.NoError(w, l.Lock(ctx, name)) // by another
		require.NoError(w, l.Unlock(ctx, name))
		require.NoError(w, l.Held(name).Err(), "the first one's was released")
		ok, err := stranger.TryLock(ctx, name)
		require.NoError(w, err)
		require.False(w, ok)
		require.NoError(w, l.Unlock(ctx, name))
		require.Empty(w, w.Keys(""))
	})
}

// trap A10
func TestAnUnlockWithoutAnAnswerCanBeRepeated(t *testing.T) {
	simulate(t, func(w *world) {
		l := New(w.session("a"))
		require.NoError(w, l.Lock(w.Context(), name))
		w.Client("a").Cut()
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		require.ErrorIs(w, l.Unlock(ctx, name), context.DeadlineExceeded)
		require.Error(w, l.RenewLockLease(w.Context(), name, time.Hour))
		w.Client("a").Heal()
		require.NoError(w, l.Unlock(w.Context(), name))
		require.Empty(w, w.Keys(""), "it is confirmed")
		require.ErrorIs(w, l.Unlock(w.Context(), name), ErrNotLocked)
	})
}

// report C3: each lock is released by the Unlock after it, whatever came of the Unlock before.
func TestAnUnlockThatWasNotConfirmedDoesNotTakeThePlaceOfTheNextOne(t *testing.T) {
	for what, ended := range map[string]func(*world) (context.Context, func()){
		"the context has ended before": func(w *world) (context.Context, func()) {
			ctx, cancel := context.WithCancel(w.Context())
			cancel()
			return ctx, func() {}
		},
		"the answer does not come": func(w *world) (context.Context, func()) {
			w.Client("a").CutReplies()
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			w.Cleanup(cancel)
			return ctx, w.Client("a").Heal
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				l, other := New(w.session("a")), New(w.session("b"))
				require.NoError(w, l.Lock(w.Context(), name))
				ctx, heal := ended(w)
				require.ErrorIs(w, l.Unlock(ctx, name), ctx.Err())
				heal()
				bounded, cancel := context.WithTimeout(w.Context(), time.Minute)
				defer cancel()
				for range 3 {
					require.NoError(w, l.Lock(bounded, name))
					require.NoError(w, l.RenewLockLease(w.Context(), name, time.Hour))
					require.NoError(w, l.Unlock(w.Context(), name))
				}
				require.Empty(w, w.Keys(""))
				ok, err := other.TryLock(w.Context(), name)
				require.NoError(w, err)
				require.True(w, ok)
				require.ErrorIs(w, l.Unlock(w.Context(), name), ErrNotLocked)
				require.NoError(w, other.Held(name).Err())
			})
		})
	}
}
