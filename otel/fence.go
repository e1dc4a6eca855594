package otellock

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdlock/etcdlock/fence"
)

// Fence returns a checker that counts the checks of another one, as those of store. The store is an
// attribute, so it is a word such as "billing-db". A refused token is the write of a holder that has
// lost its lock. It is a span etcdlock.fence.refused, with the resource and the token.
func (t *Telemetry) Fence(store string, checker fence.Checker) fence.Checker {
	f := &fenced{t, store, checker}
	for _, outcome := range []string{accepted, stale, failed} {
		f.count(context.Background(), 0, outcome)
	}
	return f
}

// The outcomes of a check.
const (
	accepted = "accepted"
	stale    = "stale"
	failed   = "failed"
)

type fenced struct {
	telemetry *Telemetry
	store     string
	checker   fence.Checker
}

// Check implements fence.Checker.
func (f *fenced) Check(ctx context.Context, resource string, token fence.Token) error {
	err, outcome := f.checker.Check(ctx, resource, token), accepted
	switch {
	case errors.Is(err, fence.ErrStale):
		outcome = stale
		_, span := f.telemetry.tracer.Start(ctx, "etcdlock.fence.refused", trace.WithAttributes(attribute.String("etcdlock.store", f.store),
			attribute.String("etcdlock.resource", resource), attribute.String("etcdlock.token", token.String())))
		span.SetStatus(codes.Error, err.Error())
		span.End()
	case err != nil:
		outcome = failed
	}
	f.count(ctx, 1, outcome)
	return err
}

func (f *fenced) count(ctx context.Context, n int64, outcome string) {
	f.telemetry.checks.Add(ctx, n, metric.WithAttributes(attribute.String("etcdlock.store", f.store), attribute.String("etcdlock.outcome", outcome)))
}
