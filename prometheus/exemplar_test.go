package promlock_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

type traceKey struct{}

func TestDurationsHaveTheTraceOfTheirCallAsExemplar(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m := promlock.New(promlock.WithTraceID(func(ctx context.Context) string {
			id, _ := ctx.Value(traceKey{}).(string)
			return id
		}))
		s, err := etcdlock.NewSession(t.Context(), etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		for _, id := range []string{"", "\xff", strings.Repeat("x", 1000), "4bf92f3577b34da6"} {
			lock, err := etcdlock.NewMutex(s, "m").Lock(context.WithValue(t.Context(), traceKey{}, id))
			require.NoError(t, err)
			require.NoError(t, lock.Unlock(t.Context()))
		}
		require.NoError(t, s.Close(t.Context()))
		r := prometheus.NewPedanticRegistry()
		require.NoError(t, r.Register(m))
		w, get := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
		get.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, get)
		got := w.Body.String()
		require.Regexp(t, `etcdlock_acquire_duration_seconds_bucket\{.*\} 4 # \{trace_id="4bf92f3577b34da6"\}`, got)
		require.Regexp(t, `etcdlock_hold_duration_seconds_bucket\{.*\} 4 # \{trace_id="4bf92f3577b34da6"\}`, got)
		require.Equal(t, 2, strings.Count(got, "trace_id="))
	})
}
