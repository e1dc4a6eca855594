package promlock

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// buckets are bounds in seconds: a lock takes a millisecond, and a wait or a job may take many minutes.
var buckets = []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800}

const (
	// MaxNames is how many elections, and how many groups of names, have series of their own.
	MaxNames = telemetry.MaxNames
	// Other is the label of all further ones.
	Other = telemetry.Other
)

// Option changes what [New] does by default.
type Option func(*Metrics)

// WithNames adds the label group to the metrics of locks. group maps the name of a lock to a group,
// such as "orders/42" to "orders/*". Of the groups the first [MaxNames] have series of their own.
func WithNames(group func(name string) string) Option {
	return func(m *Metrics) { m.group = group }
}

// WithTraceID adds exemplars to the durations of calls and holds, with the label trace_id. id returns
// the ID of the trace that the context of a call belongs to, or "" for no exemplar. A scrape has
// exemplars only in the OpenMetrics format, see EnableOpenMetrics of promhttp.HandlerOpts.
//
// With OpenTelemetry, for sampled traces only:
//
//	promlock.WithTraceID(func(ctx context.Context) string {
//		if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
//			return span.TraceID().String()
//		}
//		return ""
//	})
func WithTraceID(id func(ctx context.Context) string) Option {
	return func(m *Metrics) { m.traceID = id }
}

// Metrics is a collector of the metrics of all sessions that have its Trace. Register it once.
type Metrics struct {
	group      func(name string) string     // nil: no groups
	traceID    func(context.Context) string // nil: no exemplars
	groups     telemetry.Names
	elections  telemetry.Names
	collectors []prometheus.Collector

	acquire   *prometheus.HistogramVec
	active    *prometheus.GaugeVec
	ahead     *prometheus.HistogramVec
	hold      *prometheus.HistogramVec
	held      *prometheus.GaugeVec
	losses    *prometheus.CounterVec
	deadlocks prometheus.Counter
	asked     prometheus.Counter
	checks    *prometheus.CounterVec
	ages      *telemetry.Ages[lockLabels]
	times     [4]*prometheus.Desc // of ages
	low       telemetry.Recent    // rest of a lease

	sessions    *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	renewal     *prometheus.HistogramVec
	leftBehind  prometheus.Counter

	leading *prometheus.GaugeVec
	role    *prometheus.GaugeVec
	term    *prometheus.HistogramVec
	stop    *prometheus.HistogramVec
	changes *prometheus.CounterVec
	vacancy *prometheus.HistogramVec
	ends    *prometheus.CounterVec
	stuck   *prometheus.CounterVec
	hangs   *prometheus.GaugeVec
	healthy *prometheus.GaugeVec
	leaders telemetry.Leaders
	terms   telemetry.Stuck
	begun   telemetry.Once[begun] // the calls whose counters begin at 0

	mu      sync.Mutex // guards the fields below
	watched map[*etcdlock.Session]bool
	roles   map[string]*roles
}

// lockLabels are the kind and the group of a lock. The group is empty if there are none.
type lockLabels [2]string

// New makes the metrics.
func New(opts ...Option) *Metrics {
	m := &Metrics{
		ages: telemetry.NewAges[lockLabels](), watched: make(map[*etcdlock.Session]bool), roles: make(map[string]*roles),
	}
	for _, o := range opts {
		o(m)
	}
	lock := []string{"kind"}
	if m.group != nil {
		lock = append(lock, "group")
	}
	with := func(more ...string) []string { return append(lock[:len(lock):len(lock)], more...) }
	name := []string{"name"}

	m.acquire = m.histogram("acquire_duration_seconds", "How long calls took that acquire a lock or campaign.", with("mode", "path", "outcome", "error_type"), buckets)
	m.active = m.gauge("acquire_active", "Calls under way that acquire a lock or campaign.", lock)
	m.ahead = m.histogram("acquire_ahead", "How many entries and goroutines were ahead of a call that had to wait.", lock, []float64{1, 2, 5, 10, 50, 100, 500, 1000, 5000})
	m.hold = m.histogram("hold_duration_seconds", "How long holds lasted.", with("end"), buckets)
	m.held = m.gauge("hold_active", "Holds at present.", lock)
	m.losses = m.counter("hold_losses_total", "Holds that were lost.", with("reason"))
	m.deadlocks = m.single("deadlock_detections_total", "Calls that were refused because of a deadlock.")
	m.asked = m.single("request_received_total", "Requests to release that holds have received.")
	m.checks = m.counter("fence_checks_total", "Checks of tokens by the fence of a store.", []string{"store", "outcome"})
	for i, t := range [4][2]string{
		{"acquire_oldest", "How long the oldest call under way has lasted that acquires a lock or campaigns."},
		{"acquire_longest", "How long the longest of these calls took that have ended in the last minute or two."},
		{"hold_oldest", "How long the oldest hold has lasted."},
		{"hold_longest", "How long the longest hold has lasted that has ended in the last minute or two."},
	} {
		m.times[i] = prometheus.NewDesc("etcdlock_"+t[0]+"_seconds", t[1], lock, nil)
	}

	m.sessions = m.gauge("session_count", "Sessions in a state.", []string{"state"})
	m.transitions = m.counter("session_transitions_total", "Changes of sessions to a state.", []string{"state"})
	m.renewal = m.histogram("lease_renewal_duration_seconds", "How long renewals of leases took.", []string{"error_type"}, buckets)
	m.leftBehind = m.single("cleanup_left_behind_total", "Keys that a request without an answer may have left.")

	m.leading = m.gauge("election_leading", "1 while this process has the term of an election.", name)
	m.role = m.gauge("election_role", "1 for the role of a Run.", []string{"name", "role"})
	m.term = m.histogram("election_term_duration_seconds", "How long terms lasted.", []string{"name", "end"}, buckets)
	m.stop = m.histogram("election_stop_duration_seconds", "How long the function of a Run took to return after it was told to.", name, buckets)
	m.changes = m.counter("election_changes_total", "Changes of the leader that this process has seen.", name)
	m.vacancy = m.histogram("election_vacancy_duration_seconds", "How long an election had no leader, as this process has seen it.", name, buckets)
	m.ends = m.counter("election_term_ends_total", "Functions of a Run that have returned, by the reason.", []string{"name", "reason"})
	m.stuck = m.counter("election_stuck_total", "Functions of a Run that did not return in time.", name)
	m.hangs = m.gauge("election_stuck_terms", "Functions of a Run that have not returned in time, and still run.", name)
	m.healthy = m.gauge("election_healthy", "1 while the health check of a Run passes.", name)
	return m
}

func keep[C prometheus.Collector](m *Metrics, c C) C {
	m.collectors = append(m.collectors, c)
	return c
}

func (m *Metrics) gauge(name, help string, labels []string) *prometheus.GaugeVec {
	return keep(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "etcdlock", Name: name, Help: help}, labels))
}

func (m *Metrics) counter(name, help string, labels []string) *prometheus.CounterVec {
	return keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "etcdlock", Name: name, Help: help}, labels))
}

func (m *Metrics) single(name, help string) prometheus.Counter {
	return keep(m, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "etcdlock", Name: name, Help: help}))
}

func (m *Metrics) histogram(name, help string, labels []string, bounds []float64) *prometheus.HistogramVec {
	return keep(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "etcdlock", Name: name, Help: help, Buckets: bounds}, labels))
}

// The figures of Session.Stats.
var (
	kept         = prometheus.NewDesc("etcdlock_retention_keys", "Keys that are kept without a holder.", nil, nil)
	pends        = prometheus.NewDesc("etcdlock_cleanup_pending", "Keys that are still to be deleted.", nil, nil)
	rest         = prometheus.NewDesc("etcdlock_lease_remaining_seconds", "The shortest time until the holds of a session end, unless a renewal is answered.", nil, nil)
	remainingLow = prometheus.NewDesc("etcdlock_lease_remaining_low_seconds", "The shortest such time of the last minute or two, at an answer to a renewal.", nil, nil)
)

// Watch adds the figures of a session's Stats, until the session has ended.
func (m *Metrics) Watch(s *etcdlock.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched[s] = true
}

// Describe sends the descriptions of all metrics.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.collectors {
		c.Describe(to)
	}
	for _, d := range append([]*prometheus.Desc{kept, pends, rest, remainingLow}, m.times[:]...) {
		to <- d
	}
}

// Collect sends all metrics.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.collectors {
		c.Collect(to)
	}
	m.collectTimes(to)
	sessions := m.sample()
	var all etcdlock.Stats
	leased := false
	for _, s := range sessions {
		stats := s.Stats()
		all.Kept += stats.Kept
		all.LeftBehind += stats.LeftBehind
		if !leased || stats.LeaseRemaining < all.LeaseRemaining {
			all.LeaseRemaining, leased = stats.LeaseRemaining, true
		}
	}
	send := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	send(kept, float64(all.Kept))
	send(pends, float64(all.LeftBehind))
	if leased {
		send(rest, all.LeaseRemaining.Seconds())
	}
	if low, _, ok := m.low.Read(time.Now()); ok {
		send(remainingLow, low.Seconds())
	}
}

// collectTimes sends the times of each kind.
func (m *Metrics) collectTimes(to chan<- prometheus.Metric) {
	for kind, t := range m.ages.Read() {
		labels := kind[:1]
		if m.group != nil {
			labels = kind[:]
		}
		for i, d := range [4]time.Duration{t.OldestCall, t.LongestCall, t.OldestHold, t.LongestHold} {
			to <- prometheus.MustNewConstMetric(m.times[i], prometheus.GaugeValue, d.Seconds(), labels...)
		}
	}
}

// sample returns the sessions that go on.
func (m *Metrics) sample() (sessions []*etcdlock.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.watched {
		if s.Err() != nil {
			delete(m.watched, s)
			continue
		}
		sessions = append(sessions, s)
	}
	return sessions
}
