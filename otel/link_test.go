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
	otellock "github.com/etcdlock/etcdlock/otel"
)

// Two processes with telemetry of their own know of each other by the lock alone.
func TestAWaitersSpanIsLinkedToTheHolders(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		ctx := t.Context()
		session := func(process string) (*etcdlock.Session, *tracetest.SpanRecorder) {
			spans := tracetest.NewSpanRecorder()
			telemetry, err := otellock.New(nil, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
			require.NoError(t, err)
			s, err := etcdlock.NewSession(ctx, etcd.Process(process).Client(), etcdlock.WithTrace(telemetry.Trace()))
			require.NoError(t, err)
			return s, spans
		}
		a, holder := session("a")
		b, waiter := session("b")
		lock, err := etcdlock.NewMutex(a, "m").Lock(ctx)
		require.NoError(t, err)
		go func() {
			time.Sleep(3 * time.Second)
			_ = lock.Unlock(ctx)
		}()
		next, err := etcdlock.NewMutex(b, "m").Lock(ctx)
		require.NoError(t, err)
		require.NoError(t, next.Unlock(ctx))
		require.Empty(t, holder.Ended()[0].Links())
		links := waiter.Ended()[0].Links()
		require.Len(t, links, 1)
		held := holder.Ended()[0].SpanContext()
		require.Equal(t, held.TraceID(), links[0].SpanContext.TraceID())
		require.Equal(t, held.SpanID(), links[0].SpanContext.SpanID())
		require.True(t, links[0].SpanContext.IsRemote())
		require.NoError(t, a.Close(ctx))
		require.NoError(t, b.Close(ctx))
	})
}

// A span that is not sampled is in no backend, so a link to it would lead nowhere.
func TestASpanThatIsNotSampledIsNotInTheLock(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		telemetry, err := otellock.New(nil, sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))
		require.NoError(t, err)
		s, err := etcdlock.NewSession(t.Context(), etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace()))
		require.NoError(t, err)
		m := etcdlock.NewMutex(s, "m")
		_, err = m.Lock(t.Context())
		require.NoError(t, err)
		queue, err := m.Queue(t.Context())
		require.NoError(t, err)
		require.Empty(t, queue[0].Traceparent)
		require.NoError(t, s.Close(t.Context()))
	})
}

// The SDK takes the exemplar from the context of the call. It keeps those of sampled spans.
func TestDurationsHaveTheTraceOfTheirCallAsExemplar(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		reader, spans, ctx := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder(), t.Context()
		telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
			sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		require.NoError(t, err)
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace()))
		require.NoError(t, err)
		lock, err := etcdlock.NewMutex(s, "m").Lock(ctx)
		require.NoError(t, err)
		require.NoError(t, lock.Unlock(ctx))
		all, _ := read(t, reader)
		id := spans.Ended()[0].SpanContext().TraceID()
		for _, name := range []string{"etcdlock.acquire.duration", "etcdlock.hold.duration"} {
			exemplars := all[name].(metricdata.Histogram[float64]).DataPoints[0].Exemplars
			require.Len(t, exemplars, 1, name)
			require.Equal(t, id[:], exemplars[0].TraceID)
		}
		require.NoError(t, s.Close(ctx))
	})
}
