package otellock

import (
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// Scope is the name of the instrumentation scope.
const Scope = "github.com/etcdlock/etcdlock/otel"

const (
	// MaxNames is how many elections, and how many groups of names, have series of their own.
	MaxNames = telemetry.MaxNames
	// Other is the attribute of all further ones.
	Other = telemetry.Other
)

// buckets are bounds in seconds: a lock takes a millisecond, and a wait or a job may take many minutes.
var buckets = metric.WithExplicitBucketBoundaries(.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800)

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
	groups    telemetry.Names
	elections telemetry.Names

	acquire, hold, renewal, term, stop, vacancy metric.Float64Histogram
	ahead                                       metric.Int64Histogram
	active, held, sessions, leading, hangs      metric.Int64UpDownCounter
	losses, transitions, changes, stuck, ends   metric.Int64Counter
	deadlocks, asked, leftBehind, checks        metric.Int64Counter
	ages                                        *telemetry.Ages[attribute.Set]
	low                                         telemetry.Recent // rest of a lease
	leaders                                     telemetry.Leaders
	terms                                       telemetry.Stuck
	begun                                       telemetry.Once[attribute.Set] // kinds and elections whose counters begin at 0

	mu      sync.Mutex // guards the field below
	watched map[*etcdlock.Session]bool
}

// New makes the instruments. A provider that is nil gets nothing.
func New(meters metric.MeterProvider, tracers trace.TracerProvider, opts ...Option) (*Telemetry, error) {
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	t := &Telemetry{tracer: tracers.Tracer(Scope), ages: telemetry.NewAges[attribute.Set](), watched: make(map[*etcdlock.Session]bool)}
	for _, o := range opts {
		o(t)
	}
	meter := meters.Meter(Scope)
	err := errors.Join(t.instruments(meter), t.observables(meter))
	if err == nil {
		t.begin()
	}
	return t, err
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
	t.ends = counter("election.term.ends", "{term}", "Functions of a Run that have returned, by the reason.")
	t.stuck = counter("election.stuck", "{term}", "Functions of a Run that did not return in time.")
	t.hangs = gauge("election.stuck_terms", "{term}", "Functions of a Run that have not returned in time, and still run.")
	return errors.Join(failed...)
}
