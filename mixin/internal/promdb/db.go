// Package promdb is a small Prometheus in memory: it keeps what was scraped, and evaluates queries and
// alert rules by the engine of Prometheus.
package promdb

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// DB has the samples of some targets.
type DB struct {
	mu      sync.Mutex // guards the fields below, and the fields of each series
	series  map[string]*series
	targets map[string][]*series // what the last scrape of each target has had
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// New returns an empty DB.
func New() *DB {
	return &DB{series: make(map[string]*series), targets: make(map[string][]*series)}
}

// Target is what Prometheus scrapes. Both are labels of its series.
type Target struct{ Job, Instance string }

// Text adds a scrape in the text format of Prometheus.
func (db *DB) Text(at time.Time, target Target, text []byte) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err == nil {
		db.Scrape(at, target, slices.Collect(maps.Values(families)))
	}
	return err
}

// Scrape adds what a target has. A series that the target had before and has no more is stale from now
// on, as in Prometheus. A target that does not answer has nothing.
func (db *DB) Scrape(at time.Time, target Target, families []*dto.MetricFamily) {
	db.mu.Lock()
	defer db.mu.Unlock()
	seen := make(map[*series]bool)
	add := func(name string, m *dto.Metric, v float64, more ...string) {
		b := labels.NewBuilder(labels.FromStrings(append(more, model.MetricNameLabel, name, "job", target.Job, "instance", target.Instance)...))
		for _, l := range m.GetLabel() {
			b.Set(l.GetName(), l.GetValue())
		}
		seen[db.add(at, b.Labels(), v)] = true
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			each(f.GetName(), m, add)
		}
	}
	for _, s := range db.targets[target.Job+"\xff"+target.Instance] {
		if !seen[s] {
			s.samples = append(s.samples, sample{at.UnixMilli(), math.Float64frombits(value.StaleNaN)})
		}
	}
	db.targets[target.Job+"\xff"+target.Instance] = slices.Collect(maps.Keys(seen))
}

// each calls add for each sample of a metric.
func each(name string, m *dto.Metric, add func(name string, m *dto.Metric, v float64, more ...string)) {
	switch {
	case m.Gauge != nil:
		add(name, m, m.Gauge.GetValue())
	case m.Counter != nil:
		add(name, m, m.Counter.GetValue())
	case m.Untyped != nil:
		add(name, m, m.Untyped.GetValue())
	case m.Histogram != nil:
		h := m.Histogram
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) { // it follows
				add(name+"_bucket", m, float64(b.GetCumulativeCount()), "le", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
			}
		}
		add(name+"_bucket", m, float64(h.GetSampleCount()), "le", "+Inf")
		add(name+"_count", m, float64(h.GetSampleCount()))
		add(name+"_sum", m, h.GetSampleSum())
	}
}

func (db *DB) add(at time.Time, l labels.Labels, v float64) *series {
	key := l.String()
	s := db.series[key]
	if s == nil {
		s = &series{labels: l}
		db.series[key] = s
	}
	s.samples = append(s.samples, sample{at.UnixMilli(), v})
	return s
}

// Querier implements storage.Queryable.
func (db *DB) Querier(from, to int64) (storage.Querier, error) {
	return &querier{db: db, from: from, to: to}, nil
}

type querier struct {
	storage.MockQuerier // has no names of labels

	db       *DB
	from, to int64
}

// Select implements storage.Querier.
func (q *querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	q.db.mu.Lock()
	defer q.db.mu.Unlock()
	set := &seriesSet{}
	for _, key := range slices.Sorted(maps.Keys(q.db.series)) {
		s := q.db.series[key]
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		var in []chunks.Sample
		for _, x := range s.samples {
			if q.from <= x.T() && x.T() <= q.to {
				in = append(in, x)
			}
		}
		if len(in) > 0 {
			set.all = append(set.all, storage.NewListSeries(s.labels, in))
		}
	}
	return set
}

type seriesSet struct {
	all  []storage.Series
	next int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a chunks.Sample of a float.
type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
