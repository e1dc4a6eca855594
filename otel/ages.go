package otellock

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// ages knows since when each call waits and each hold lasts, for the age of the oldest.
type ages struct {
	mu    sync.Mutex // guards all below, and the fields of each age
	calls map[*age]bool
	holds map[*age]bool
	kinds map[attribute.Set]bool // all attributes that were seen
}

// age is a call, and then its hold.
type age struct {
	kind  attribute.Set
	since time.Time
	ended bool // true: the call has failed, or the hold has ended
}

// ageKey finds the age of a call in its context.
type ageKey struct{ of *ages }

func newAges() *ages {
	return &ages{calls: make(map[*age]bool), holds: make(map[*age]bool), kinds: make(map[attribute.Set]bool)}
}

// begin notes a call, and returns its context.
func (a *ages) begin(ctx context.Context, kind attribute.Set) context.Context {
	c := &age{kind: kind, since: time.Now()}
	a.mu.Lock()
	a.calls[c] = true
	a.kinds[kind] = true
	a.mu.Unlock()
	return context.WithValue(ctx, ageKey{a}, c)
}

// granted turns a call into a hold.
func (a *ages) granted(ctx context.Context) {
	c, ok := ctx.Value(ageKey{a}).(*age)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, c)
	if !c.ended { // a loss can be reported before the grant
		c.since = time.Now()
		a.holds[c] = true
	}
}

// end forgets a call that has failed, or a hold.
func (a *ages) end(ctx context.Context) {
	c, ok := ctx.Value(ageKey{a}).(*age)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, c)
	delete(a.holds, c)
	c.ended = true
}

// observe tells the age of the oldest call and of the oldest hold of each kind. It takes time in
// proportion to the calls and holds.
func (a *ages) observe(o metric.Observer, waiting, held metric.Float64Observable) {
	a.mu.Lock()
	defer a.mu.Unlock()
	tell := func(gauge metric.Float64Observable, all map[*age]bool) {
		oldest := make(map[attribute.Set]time.Duration)
		for c := range all {
			oldest[c.kind] = max(oldest[c.kind], time.Since(c.since))
		}
		for kind := range a.kinds {
			o.ObserveFloat64(gauge, oldest[kind].Seconds(), metric.WithAttributeSet(kind))
		}
	}
	tell(waiting, a.calls)
	tell(held, a.holds)
}
