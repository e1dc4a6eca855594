package etcdlock

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestEveryOptionIsValidatedBeforeEtcdIsAsked(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		for what, tc := range map[string]struct {
			opts []SessionOption
			err  error
		}{
			"TTL 0":                  {[]SessionOption{WithTTL(0)}, ErrInvalidTTL},
			"TTL negative":           {[]SessionOption{WithTTL(-time.Second)}, ErrInvalidTTL},
			"TTL below a second":     {[]SessionOption{WithTTL(999 * time.Millisecond)}, ErrInvalidTTL},
			"TTL not whole seconds":  {[]SessionOption{WithTTL(1500 * time.Millisecond)}, ErrInvalidTTL},
			"margin negative":        {[]SessionOption{WithMargin(-1)}, ErrInvalidOption},
			"margin too large":       {[]SessionOption{WithTTL(4 * time.Second), WithMargin(2*time.Second + 1)}, ErrInvalidOption},
			"margin as large as TTL": {[]SessionOption{WithMargin(DefaultTTL)}, ErrInvalidOption},
		} {
			require.Empty(w, requests(c, func() {
				_, err := NewSession(w.ctx, c.Client, tc.opts...)
				require.ErrorIs(w, err, tc.err, what)
				require.ErrorContains(w, err, "etcdlock: new session: ")
			}), what)
		}
		for what, opts := range map[string][]SessionOption{
			"nothing":     nil,
			"least TTL":   {WithTTL(time.Second)},
			"long TTL":    {WithTTL(24 * time.Hour)},
			"most margin": {WithTTL(4 * time.Second), WithMargin(2 * time.Second)},
			"least":       {WithMargin(1)},
			"no logger":   {WithLogger(nil)},
			"no slog":     {WithSlog(nil)},
			"owner":       {WithOwner("")},
		} {
			s, err := NewSession(w.ctx, c.Client, opts...)
			require.NoError(w, err, what)
			require.Same(w, c.Client, s.Client())
			require.NoError(w, s.Close(w.ctx), what)
		}
		require.Empty(w, w.Leases())
	})
}

// trap C6: etcd would silently raise it.
func TestATTLBelowTheServersMinimumIsRefused(t *testing.T) {
	simulateWith(t, simetcd.Config{MinTTL: 3 * time.Second}, func(w *world) {
		_, err := NewSession(w.ctx, w.Client("a").Client, WithTTL(2*time.Second))
		require.ErrorIs(w, err, ErrInvalidTTL)
		require.ErrorContains(w, err, "2s")
		require.ErrorContains(w, err, "3s")
		require.Empty(w, w.Leases(), "the lease is given back")
		s := w.session("a", WithTTL(3*time.Second))
		require.Equal(w, 3*time.Second, s.TTL())
	})
}

func TestOwnersOfASessionAndOfAMutex(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithOwner("the session's"))
		for want, opts := range map[string][]MutexOption{"the session's": nil, "its own": {WithOwner("its own")}, "": {WithOwner("")}} {
			m := NewMutex(s, "m", opts...)
			require.NoError(w, m.Do(w.ctx, func(context.Context, *Lock) error {
				entries, err := m.Queue(w.ctx)
				require.NoError(w, err)
				require.Equal(w, want, entries[0].Owner)
				return nil
			}))
		}
	})
}

// An option that a kind of lock would ignore does not compile there.
func TestWhichOptionIsForWhichLock(t *testing.T) {
	for want, opts := range map[bool][]MutexOption{
		true:  {WithOwner("a"), WithReentry(2), WithDeadlockDetection("")},
		false: {WithTimeSlice(0), WithRetention(time.Second)},
	} {
		for _, o := range opts {
			_, all := o.(LockOption)
			require.Equal(t, want, all)
		}
	}
	for _, o := range []any{WithOwner("a"), WithDeadlockDetection("")} {
		require.Implements(t, (*SharedOption)(nil), o)
	}
	_, session := any(WithReentry(2)).(SessionOption)
	require.False(t, session)
}

// Of WithLogger and WithSlog the later one counts, and what it is told has the level and the fields of the other.
func TestTheLaterLoggerCounts(t *testing.T) {
	for _, slogLast := range []bool{false, true} {
		simulate(t, func(w *world) {
			core, logs := logged.New(zapcore.WarnLevel)
			var out lockedBuffer
			opts := []SessionOption{WithLogger(zap.New(core)), WithSlog(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn, AddSource: true})))}
			if !slogLast {
				slices.Reverse(opts)
			}
			l := w.lock(NewMutex(w.session("a", opts...), "m"))
			w.DeleteKey(l.Key())
			w.pass(time.Minute)
			require.Error(w, l.Err())
			if !slogLast {
				require.Empty(w, out.String())
				require.NotZero(w, logs.Len())
				return
			}
			require.Zero(w, logs.Len())
			var line struct {
				Level, Msg string
				Source     struct{ File string }
			}
			require.NoError(w, json.Unmarshal([]byte(out.String()), &line), "one line: %s", out.String())
			require.Equal(w, "WARN", line.Level)
			require.Contains(w, out.String(), l.Key(), "the fields come along")
			require.Equal(w, "title.go", filepath.Base(line.Source.File))
			require.NotEmpty(w, line.Msg)
		})
	}
}

// A lockedBuffer can be read while a logger writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
