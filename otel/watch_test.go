package otellock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/fence"
	otellock "github.com/etcdlock/etcdlock/otel"
)

func TestAgesLeasesAndChecksOfAFence(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		reader, spans, ctx := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder(), t.Context()
		telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
			sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		require.NoError(t, err)
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace()))
		require.NoError(t, err)
		telemetry.Watch(s)
		lock, err := etcdlock.NewMutex(s, "orders/42").Lock(ctx)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		all, _ := read(t, reader)
		seconds := func(name string) float64 { return all[name].(metricdata.Gauge[float64]).DataPoints[0].Value }
		require.InDelta(t, 60, seconds("etcdlock.hold.oldest"), 0.1)
		require.Zero(t, seconds("etcdlock.acquire.oldest"))
		require.InDelta(t, 7, seconds("etcdlock.lease.remaining"), 3)
		require.InDelta(t, 6, seconds("etcdlock.lease.remaining.low"), 1)
		require.Zero(t, all["etcdlock.cleanup.pending"].(metricdata.Gauge[int64]).DataPoints[0].Value)
		require.NoError(t, lock.Unlock(ctx))

		fenced := telemetry.Fence("db", fence.NewMemory())
		require.NoError(t, fenced.Check(ctx, "r", fence.Token{Value: 2}))
		require.ErrorIs(t, fenced.Check(ctx, "r", fence.Token{Value: 1}), fence.ErrStale)
		refused := spans.Ended()[len(spans.Ended())-1]
		require.Equal(t, "etcdlock.fence.refused", refused.Name())
		require.Contains(t, refused.Status().Description, `"r" was claimed with token 0.2, newer than 0.1`)
		all, _ = read(t, reader)
		require.Zero(t, seconds("etcdlock.hold.oldest"))
		require.Len(t, all["etcdlock.fence.checks"].(metricdata.Sum[int64]).DataPoints, 3, "each outcome begins at 0")
		require.NoError(t, s.Close(ctx))
	})
}
