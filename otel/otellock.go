package otellock

import (
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/etcdlock/etcdlock"
)

// Scope is the name of the instrumentation scope.
const Scope = "github.com/etcdlock/etcdlock/otel"

// buckets are bounds in seconds: a lock takes a millisecond, and a wait may take minutes.
var buckets = metric.WithExplicitBucketBoundaries(.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300)

// Option changes what [New] does by default.
type Option func(*Telemetry)

// WithNames adds the attribute etcdlock.group to the metrics of locks. group maps the name of a lock
// to a group, such as "orders/42" to "orders/*". Of the groups the first [MaxNames] have series of
// their own.
func WithNames(group func(name string) string) Option {
	return func(t *Telemetry) { t.group = group }
}

// Telemetry has the instruments for all sessions that have its Trace.
type Telemetry struct {
	tracer    trace.Tracer
	group     func(name string) string // nil: no groups
	groups    names
	elections names

	acquire, hold, renewal, term, stop, vacancy metric.Float64Histogram
	ahead                                       metric.Int64Histogram
	active, held, sessions, leading             metric.Int64UpDownCounter
	losses, transitions, changes, stuck         metric.Int64Counter
	deadlocks, asked, leftBehind, checks        metric.Int64Counter
	ages                                        *ages

	mu      sync.Mutex // guards the fields below
	seen    map[string]observed
	watched map[*etcdlock.Session]bool
	low     lowest // rest of a lease, with a mutex of its own
}

// observed is the last leader of an election, as this process has seen it.
type observed struct {
	createRevision int64
	since          time.Time
	revision       int64 // of the last observation, by whichever Run
	run            int64 // the Run that made it
}

// New makes the instruments. A provider that is nil gets nothing.
func New(meters metric.MeterProvider, tracers trace.TracerProvider, opts ...Option) (*Telemetry, error) {
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	t := &Telemetry{tracer: tracers.Tracer(Scope), ages: newAges(), seen: make(map[string]observed), watched: make(map[*etcdlock.Session]bool)}
	for _, o := range opts {
		o(t)
	}
	meter := meters.Meter(Scope)
	return t, errors.Join(t.instruments(meter), t.observables(meter))
}

func (t *Telemetry) instruments(m metric.Meter) error {
	var failed []error
	seconds := func(name, help string) metric.Float64Histogram {
		h, err := m.Float64Histogram("etcdlock."+name, metric.WithUnit("s"), metric.WithDescription(help), buckets)
		failed = append(failed, err)
		return h
	}
	gauge := func(name, unit, help string) metric.Int64UpDownCounter {
		g, err := m.Int64UpDownCounter("etcdlock."+name, metric.WithUnit(unit), metric.WithDescription(help))
		failed = append(failed, err)
		return g
	}
	counter := func(name, unit, help string) metric.Int64Counter {
		c, err := m.Int64Counter("etcdlock."+name, metric.WithUnit(unit), metric.WithDescription(help))
		failed = append(failed, err)
		return c
	}
	var err error
	t.ahead, err = m.Int64Histogram("etcdlock.acquire.ahead", metric.WithUnit("{entry}"),
		metric.WithDescription("How many entries and goroutines were ahead of a call that had to wait."),
		metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 50, 100, 500, 1000, 5000))
	failed = append(failed, err)

	t.acquire = seconds("acquire.duration", "How long calls took that acquire a lock or campaign.")
	t.active = gauge("acquire.active", "{call}", "Calls under way that acquire a lock or campaign.")
	t.hold = seconds("hold.duration", "How long holds lasted.")
	t.held = gauge("hold.active", "{hold}", "Holds at present.")
	t.losses = counter("hold.losses", "{hold}", "Holds that were lost.")
	t.deadlocks = counter("deadlock.detections", "{call}", "Calls that were refused because of a deadlock.")
	t.asked = counter("request.received", "{request}", "Requests to release that holds have received.")
	t.checks = counter("fence.checks", "{check}", "Checks of tokens by the fence of a store.")
	t.sessions = gauge("session.count", "{session}", "Sessions in a state.")
	t.transitions = counter("session.transitions", "{transition}", "Changes of sessions to a state.")
	t.renewal = seconds("lease.renewal.duration", "How long renewals of leases took.")
	t.leftBehind = counter("cleanup.left_behind", "{key}", "Keys that a request without an answer may have left.")
	t.leading = gauge("election.leading", "{term}", "1 while this process has the term of an election.")
	t.term = seconds("election.term.duration", "How long terms lasted.")
	t.stop = seconds("election.stop.duration", "How long the function of a Run took to return after it was told to.")
	t.changes = counter("election.changes", "{change}", "Changes of the leader that this process has seen.")
	t.vacancy = seconds("election.vacancy.duration", "How long an election had no leader, as this process has seen it.")
	t.stuck = counter("election.stuck", "{term}", "Functions of a Run that did not return in time.")
	return errors.Join(failed...)
}
