package otellock

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// A counter whose first value is above 0 has no increase in the eyes of Prometheus and others, so no alert
// would see the first event. So counters begin at 0. The API has no way to begin a histogram without an
// observation.

// begin makes the series that have few attributes.
func (t *Telemetry) begin() {
	ctx := context.Background()
	for _, c := range []metric.Int64Counter{t.deadlocks, t.asked, t.leftBehind} {
		c.Add(ctx, 0)
	}
	for _, s := range []etcdlock.State{etcdlock.StateConnected, etcdlock.StateSuspended, etcdlock.StateLost, etcdlock.StateClosed} {
		t.transitions.Add(ctx, 0, sessionState(s))
		if s != etcdlock.StateClosed {
			t.sessions.Add(ctx, 0, sessionState(s))
		}
	}
}

// beginKind makes the series of a kind, which is a set of attributes, at its first call.
func (t *Telemetry) beginKind(ctx context.Context, kind attribute.Set, i etcdlock.AcquireStartInfo) {
	if !t.begun.First(kind) {
		return
	}
	for _, end := range telemetry.Losses {
		t.losses.Add(ctx, 0, t.lock(i.Kind, i.Name, attribute.String("etcdlock.end", end)))
	}
}

// beginElection makes the series of an election at its first call.
func (t *Telemetry) beginElection(ctx context.Context, name string) {
	t.leading.Add(ctx, 0, t.election(name)) // a candidate that has not led yet does not lead
	if !t.begun.First(attribute.NewSet(attribute.String("etcdlock.election.name", t.elections.Label(name)))) {
		return
	}
	t.hangs.Add(ctx, 0, t.election(name))
	for _, c := range []metric.Int64Counter{t.changes, t.stuck} {
		c.Add(ctx, 0, t.election(name))
	}
	for _, reason := range telemetry.TermEnds {
		t.ends.Add(ctx, 0, t.election(name, attribute.String("etcdlock.reason", reason)))
	}
}
