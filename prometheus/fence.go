package promlock

import (
	"context"
	"errors"

	"github.com/etcdlock/etcdlock/fence"
)

// Fence returns a checker that counts the checks of another one, as those of store. The store is a
// label, so it is a word such as "billing-db". A refused token is the write of a holder that has lost
// its lock.
func (m *Metrics) Fence(store string, checker fence.Checker) fence.Checker {
	for _, outcome := range []string{"accepted", "stale", "failed"} {
		m.checks.WithLabelValues(store, outcome) // a series that begins above 0 is no increase
	}
	return &fenced{m, store, checker}
}

type fenced struct {
	metrics *Metrics
	store   string
	checker fence.Checker
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
	f.metrics.checks.WithLabelValues(f.store, outcome).Inc()
	return err
}
