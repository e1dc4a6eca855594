package otellock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	otellock "github.com/etcdlock/etcdlock/otel"
)

// read returns the metrics by their names, and how many series there are.
func read(t *testing.T, r sdkmetric.Reader) (all map[string]metricdata.Aggregation, series int) {
	t.Helper()
	var got metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &got))
	all = make(map[string]metricdata.Aggregation)
	for _, scope := range got.ScopeMetrics {
		require.Equal(t, otellock.Scope, scope.Scope.Name)
		for _, m := range scope.Metrics {
			all[m.Name] = m.Data
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				series += len(d.DataPoints)
			case metricdata.Gauge[int64]:
				series += len(d.DataPoints)
			case metricdata.Gauge[float64]:
				series += len(d.DataPoints)
			case metricdata.Histogram[int64]:
				series += len(d.DataPoints)
			case metricdata.Histogram[float64]:
				series += len(d.DataPoints)
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return all, series
}

func TestTheSpansAndMetricsOfALock(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		reader, spans, ctx := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder(), t.Context()
		tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), tracers)
		require.NoError(t, err)
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace()))
		require.NoError(t, err)
		mu := etcdlock.NewMutex(s, "orders/42")
		parent, root := tracers.Tracer("test").Start(ctx, "request")
		lock, err := mu.Lock(parent)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(parent, time.Second)
		defer cancel()
		_, err = mu.Lock(short)
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		require.NoError(t, lock.Unlock(ctx))
		root.End()
		synctest.Wait()

		ended := spans.Ended()
		require.Len(t, ended, 4)
		acquired, gaveUp, released := ended[0], ended[1], ended[2]
		require.Equal(t, "etcdlock.acquire", acquired.Name())
		require.Equal(t, root.SpanContext().SpanID(), acquired.Parent().SpanID())
		require.Contains(t, acquired.Attributes(), attribute.String("etcdlock.path", "free"))
		require.Equal(t, "granted", acquired.Events()[0].Name)
		require.Equal(t, "queued", gaveUp.Events()[0].Name)
		require.Contains(t, gaveUp.Attributes(), attribute.String("error.type", "deadline_exceeded"))
		require.Equal(t, "etcdlock.release", released.Name())
		require.Equal(t, acquired.SpanContext().SpanID(), released.Parent().SpanID())

		all, _ := read(t, reader)
		require.Len(t, all["etcdlock.acquire.duration"].(metricdata.Histogram[float64]).DataPoints, 2)
		require.Zero(t, all["etcdlock.hold.active"].(metricdata.Sum[int64]).DataPoints[0].Value)
		require.EqualValues(t, 1, all["etcdlock.hold.duration"].(metricdata.Histogram[float64]).DataPoints[0].Count)
		sessions := all["etcdlock.session.count"].(metricdata.Sum[int64]).DataPoints
		require.Len(t, sessions, 3, "each state begins at 0")
		require.EqualValues(t, 1, sessions[0].Value+sessions[1].Value+sessions[2].Value)
		require.NoError(t, s.Close(ctx))
	})
}

// The number of series does not grow with the names of locks, elections, groups and errors.
func TestAHundredThousandNamesMakeFewSeries(t *testing.T) {
	for _, opts := range [][]otellock.Option{nil, {otellock.WithNames(func(name string) string { return name })}} {
		reader, ctx := sdkmetric.NewManualReader(), t.Context()
		telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithCardinalityLimit(0)), nil, opts...)
		require.NoError(t, err)
		trace := telemetry.Trace()
		feed := func(from, to int) {
			for i := from; i < to; i++ {
				name := fmt.Sprintf("name/%d", i)
				call := etcdlock.AcquireStartInfo{Kind: etcdlock.Kind(1 + i%6), Name: name}
				hold := etcdlock.HoldInfo{Kind: call.Kind, Name: name, Key: name + "/1f", Token: int64(i)}
				ctx := trace.AcquireStart(ctx, call)
				trace.AcquireEnd(ctx, etcdlock.AcquireEndInfo{AcquireStartInfo: call, Path: etcdlock.PathFree, Hold: hold})
				trace.HoldEnd(ctx, etcdlock.HoldEndInfo{Hold: hold, Cause: etcdlock.ErrReleased})
				trace.AcquireStart(ctx, call)
				trace.AcquireEnd(ctx, etcdlock.AcquireEndInfo{AcquireStartInfo: call, Err: errors.New("error " + name)})
				trace.LeaderSeen(ctx, etcdlock.LeaderSeenInfo{Election: name, Leader: etcdlock.Leader{Key: "k", CreateRevision: int64(i + 1)}})
			}
		}
		feed(0, 1000)
		_, few := read(t, reader)
		feed(1000, 100_000)
		_, many := read(t, reader)
		t.Log(few, "series")
		require.Equal(t, few, many)
		require.Less(t, few, 4000)
	}
}
