package otellock_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/etcdlock/etcdlock"
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
