package etcdlock

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// BenchmarkTrace compares a session without a trace to one with an empty hook for each event, to one that
// writes a span into the lock besides, and to one with LogTrace. It is in docs/performance.md:
//
//	go test -run - -bench Trace -benchmem -count 6 .
func BenchmarkTrace(b *testing.B) {
	for _, c := range []struct {
		name string
		opts []SessionOption
	}{
		{"unset", nil},
		{"empty", []SessionOption{WithTrace(emptyTrace())}},
		{"span", []SessionOption{WithTrace(emptyTrace(), &Trace{Traceparent: func(context.Context) string {
			return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		}})}},
		{"log", []SessionOption{WithTrace(LogTrace(slog.New(slog.DiscardHandler)))}},
	} {
		b.Run("free/"+c.name, func(b *testing.B) { benchmarkPair(b, c.opts) })
		b.Run("retained/"+c.name, func(b *testing.B) { benchmarkPair(b, c.opts, WithRetention(time.Hour)) })
		b.Run("local/"+c.name, func(b *testing.B) { benchmarkHandover(b, c.opts) })
	}
}

// emptyTrace has all hooks, which do nothing.
func emptyTrace() *Trace {
	return &Trace{
		AcquireStart: func(ctx context.Context, _ AcquireStartInfo) context.Context { return ctx },
		Queued:       func(context.Context, QueuedInfo) {},
		AcquireEnd:   func(context.Context, AcquireEndInfo) {},
		HoldEnd:      func(context.Context, HoldEndInfo) {},
		ReleaseEnd:   func(context.Context, ReleaseEndInfo) {},
	}
}

// benchmarkSession is a session on a simulated etcd that answers at once, by the wall clock.
func benchmarkSession(b *testing.B, opts []SessionOption) *Session {
	b.Helper()
	server := simetcd.New(simetcd.Config{Seed: 1, MinLatency: 1, MaxLatency: 1})
	client := server.Client("a")
	s, err := NewSession(b.Context(), client.Client, append([]SessionOption{renewOn(client), writeOn(client)}, opts...)...)
	require.NoError(b, err)
	b.Cleanup(func() {
		_ = s.Close(context.Background())
		_ = client.Close()
		server.Close()
	})
	b.ReportAllocs()
	return s
}

// benchmarkPair locks and unlocks.
func benchmarkPair(b *testing.B, session []SessionOption, opts ...MutexOption) {
	mu, ctx := NewMutex(benchmarkSession(b, session), "m", opts...), context.Background()
	for b.Loop() {
		l, err := mu.Lock(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Unlock(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkHandover has 8 goroutines hand over one lock in memory.
func benchmarkHandover(b *testing.B, session []SessionOption) {
	mu, ctx := NewMutex(benchmarkSession(b, session), "m", WithTimeSlice(time.Hour)), context.Background()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := mu.Lock(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			if err := l.Unlock(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
