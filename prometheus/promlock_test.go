package promlock_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

// scrape returns what a scrape gets.
func scrape(t *testing.T, m *promlock.Metrics) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	return w.Body.String()
}

func requireSamples(t *testing.T, got string, samples ...string) {
	t.Helper()
	for _, want := range samples {
		require.Contains(t, got, "\n"+want+"\n")
	}
}

func TestTheMetricsOfLocksAndElections(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m, ctx := promlock.New(), t.Context()
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		m.Watch(s)
		mu := etcdlock.NewMutex(s, "orders/42")
		lock, err := mu.Lock(ctx)
		require.NoError(t, err)
		_, err = mu.TryLock(ctx)
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		time.Sleep(2 * time.Second)
		requireSamples(t, scrape(t, m), `etcdlock_hold_active{kind="mutex"} 1`, `etcdlock_session_count{state="connected"} 1`)
		require.NoError(t, lock.Unlock(ctx))
		run, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			done <- etcdlock.NewElection(s, "scheduler").Run(run, "a", func(ctx context.Context, _ *etcdlock.Term) error { <-ctx.Done(); return nil })
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		requireSamples(t, scrape(t, m), `etcdlock_election_leading{name="scheduler"} 1`, `etcdlock_election_role{name="scheduler",role="leading"} 1`)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		got := scrape(t, m)
		requireSamples(t, got,
			`etcdlock_acquire_duration_seconds_count{error_type="",kind="mutex",mode="wait",outcome="granted",path="free"} 1`,
			`etcdlock_acquire_duration_seconds_count{error_type="locked",kind="mutex",mode="try",outcome="locked",path="none"} 1`,
			`etcdlock_hold_duration_seconds_count{end="released",kind="mutex"} 1`, `etcdlock_hold_active{kind="mutex"} 0`,
			`etcdlock_election_leading{name="scheduler"} 0`, `etcdlock_election_stop_duration_seconds_count{name="scheduler"} 1`,
			`etcdlock_acquire_active{kind="mutex"} 0`, `etcdlock_cleanup_pending 0`,
		)
		require.Contains(t, got, "\netcdlock_lease_remaining_seconds ")
		require.NotContains(t, got, "orders/42")
		require.NoError(t, s.Close(ctx))
		synctest.Wait()
		requireSamples(t, scrape(t, m), `etcdlock_session_count{state="connected"} 0`, `etcdlock_session_transitions_total{state="closed"} 1`)
	})
}

// The number of series does not grow with the names of locks, elections, groups and errors.
func TestAHundredThousandNamesMakeFewSeries(t *testing.T) {
	for _, opts := range [][]promlock.Option{nil, {promlock.WithNames(func(name string) string { return name })}} {
		m := promlock.New(opts...)
		trace, ctx := m.Trace(), t.Context()
		series := func() int { return strings.Count(scrape(t, m), "\netcdlock_") }
		feed := func(from, to int) {
			for i := from; i < to; i++ {
				name := fmt.Sprintf("name/%d", i)
				kind := etcdlock.Kind(1 + i%6)
				call := etcdlock.AcquireStartInfo{Kind: kind, Name: name}
				hold := etcdlock.HoldInfo{Kind: kind, Name: name, Key: name + "/1f", Token: int64(i)}
				trace.AcquireStart(ctx, call)
				trace.AcquireEnd(ctx, etcdlock.AcquireEndInfo{AcquireStartInfo: call, Path: etcdlock.PathFree, Hold: hold})
				trace.HoldEnd(ctx, etcdlock.HoldEndInfo{Hold: hold, Cause: etcdlock.ErrReleased})
				trace.AcquireStart(ctx, call)
				trace.AcquireEnd(ctx, etcdlock.AcquireEndInfo{AcquireStartInfo: call, Err: errors.New("error " + name)})
				trace.Role(ctx, etcdlock.RoleInfo{Election: name, Role: etcdlock.RoleObserver})
				trace.LeaderSeen(ctx, etcdlock.LeaderSeenInfo{Election: name, Leader: etcdlock.Leader{Key: "k", CreateRevision: int64(i)}})
				trace.Health(ctx, etcdlock.HealthInfo{Election: name})
			}
		}
		feed(0, 1000)
		few := series()
		feed(1000, 100_000)
		require.Equal(t, few, series())
		t.Log(few, "series")
		require.Less(t, few, 8000)
	}
}
