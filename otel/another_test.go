package otellock_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	otellock "github.com/etcdlock/etcdlock/otel"
)

// A trace that comes later may put a span of its own into the context. It is not ours to end.
func TestTheSpanOfAnotherTraceIsLeftAlone(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		spans, ctx := tracetest.NewSpanRecorder(), t.Context()
		tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		telemetry, err := otellock.New(nil, tracers)
		require.NoError(t, err)
		own := &etcdlock.Trace{AcquireStart: func(ctx context.Context, _ etcdlock.AcquireStartInfo) context.Context {
			ctx, _ = tracers.Tracer("mine").Start(ctx, "mine")
			return ctx
		}}
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace(), own))
		require.NoError(t, err)
		lock, err := etcdlock.NewMutex(s, "m").Lock(ctx)
		require.NoError(t, err)
		require.NoError(t, lock.Unlock(ctx))
		synctest.Wait()
		var ended []string
		for _, span := range spans.Ended() {
			ended = append(ended, span.Name())
		}
		require.Contains(t, ended, "etcdlock.acquire")
		require.NotContains(t, ended, "mine")
		require.NoError(t, s.Close(ctx))
	})
}
