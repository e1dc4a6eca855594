package otellock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	otellock "github.com/etcdlock/etcdlock/otel"
)

// Two Runs of one election report what they see, one after the other. After a restore revisions are
// smaller.
func TestEachChangeOfALeaderIsCountedOnce(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), nil)
	require.NoError(t, err)
	trace := telemetry.Trace()
	sees := func(run, created, revision int64) {
		l := etcdlock.Leader{CreateRevision: created, Revision: revision}
		if created > 0 {
			l.Key = "k"
		}
		trace.LeaderSeen(t.Context(), etcdlock.LeaderSeenInfo{Election: "e", Leader: l, Run: run})
	}
	sees(1, 10, 10)
	sees(2, 10, 10)
	sees(1, 0, 15)
	sees(1, 20, 20)
	sees(2, 0, 15)
	sees(2, 20, 20)
	changes := func() int64 {
		all, _ := read(t, reader)
		return all["etcdlock.election.changes"].(metricdata.Sum[int64]).DataPoints[0].Value
	}
	require.EqualValues(t, 1, changes())
	sees(1, 5, 6) // etcd was restored
	sees(2, 5, 6)
	sees(2, 7, 7)
	require.EqualValues(t, 3, changes())
}

// Work that is stuck is stuck until it returns. All counters of an election begin at 0.
func TestWorkIsStuckUntilItReturns(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		reader, ctx := sdkmetric.NewManualReader(), t.Context()
		telemetry, err := otellock.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), nil)
		require.NoError(t, err)
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(telemetry.Trace()))
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			done <- etcdlock.NewElection(s, "e").Run(ctx, "a", func(ctx context.Context, _ *etcdlock.Term) error {
				time.Sleep(time.Minute)
				if ctx.Err() == nil {
					return nil
				}
				time.Sleep(2 * time.Minute)
				return nil
			}, etcdlock.WithStopTimeout(10*time.Second))
		}()
		values := func(metric string) (sum int64, points int) {
			all, _ := read(t, reader)
			for _, p := range all[metric].(metricdata.Sum[int64]).DataPoints {
				sum += p.Value
				points++
			}
			return sum, points
		}
		requireSum := func(metric string, want int64) {
			t.Helper()
			sum, points := values(metric)
			require.Equal(t, want, sum)
			require.NotZero(t, points)
		}
		time.Sleep(30 * time.Second)
		for _, metric := range []string{"etcdlock.election.stuck_terms", "etcdlock.election.stuck", "etcdlock.election.term.ends"} {
			requireSum(metric, 0)
		}
		etcd.Evict("e")
		time.Sleep(time.Minute)
		requireSum("etcdlock.election.stuck_terms", 1)
		requireSum("etcdlock.election.term.ends", 0)
		require.NoError(t, <-done)
		requireSum("etcdlock.election.stuck_terms", 0)
		requireSum("etcdlock.election.stuck", 1)
		requireSum("etcdlock.election.term.ends", 2) // evicted, and returned
		require.NoError(t, s.Close(ctx))
	})
}
