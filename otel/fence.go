package otellock

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/etcdlock/etcdlock/fence"
)

// Fence returns a checker that counts the checks of another one, as those of store. The store is an
// attribute, so it is a word such as "billing-db". A refused token is the write of a holder that has
// lost its lock.
func (t *Telemetry) Fence(store string, checker fence.Checker) fence.Checker {
	return &fenced{t, store, checker}
}

type fenced struct {
	telemetry *Telemetry
	store     string
	checker   fence.Checker
}

// Check implements fence.Checker.
func (f *fenced) Check(ctx context.Context, resource string, token fence.Token) error {
	err, outcome := f.checker.Check(ctx, resource, token), "accepted"
	switch {
	case errors.Is(err, fence.ErrStale):
		outcome = "stale"
	case err != nil:
		outcome = "failed"
	}
	f.telemetry.checks.Add(ctx, 1, metric.WithAttributes(
		attribute.String("etcdlock.store", f.store), attribute.String("etcdlock.outcome", outcome)))
	return err
}
