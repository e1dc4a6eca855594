package mixin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/mixin/internal/promdb"
	otellock "github.com/etcdlock/etcdlock/otel"
)

// report collects what an hour leaves, and writes it into files.
type report struct {
	t      *testing.T
	dir    string
	began  time.Time
	audits sync.WaitGroup

	mu    sync.Mutex // guards the field below
	files map[string]*strings.Builder
}

func newReport(t *testing.T, dir string) *report {
	require.NoError(t, os.MkdirAll(dir, 0o700))
	return &report{t: t, dir: dir, files: make(map[string]*strings.Builder)}
}

// add adds to a file.
func (r *report) add(file, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[file] == nil {
		r.files[file] = &strings.Builder{}
	}
	r.files[file].WriteString(text)
}

// addJSON adds a line to a file.
func (r *report) addJSON(file string, v any) {
	line, err := json.Marshal(v)
	assert.NoError(r.t, err)
	r.add(file, string(line)+"\n")
}

// into is a writer to a file.
type into struct {
	report *report
	file   string
}

func (w into) Write(p []byte) (int, error) {
	w.report.add(w.file, string(p))
	return len(p), nil
}

// traces are the logs and the spans of a process. Its fence has spans too.
func (r *report) traces(s *service) []*etcdlock.Trace {
	name := s.process.Name()
	logger := slog.New(slog.NewTextHandler(into{r, "log.txt"}, nil)).With("process", name)
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans{r, name}))
	telemetry, err := otellock.New(nil, tracers)
	require.NoError(r.t, err)
	s.fence = telemetry.Fence("billing-db", s.fence)
	return []*etcdlock.Trace{telemetry.Trace(), etcdlock.LogTrace(logger)}
}

// spans writes each span of a process when it ends.
type spans struct {
	report  *report
	process string
}

func (s spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s spans) Shutdown(context.Context) error                  { return nil }
func (s spans) ForceFlush(context.Context) error                { return nil }

func (s spans) OnEnd(span sdktrace.ReadOnlySpan) {
	type entry = map[string]any
	values := func(all []attribute.KeyValue) entry {
		e := make(entry)
		for _, a := range all {
			e[string(a.Key)] = a.Value.AsInterface()
		}
		return e
	}
	e := entry{
		"process": s.process, "name": span.Name(), "trace": span.SpanContext().TraceID(), "span": span.SpanContext().SpanID(),
		"start": span.StartTime().UTC(), "end": span.EndTime().UTC(), "attributes": values(span.Attributes()), "status": span.Status().Description,
	}
	if span.Parent().IsValid() {
		e["parent"] = span.Parent().SpanID()
	}
	var events, links []entry
	for _, x := range span.Events() {
		events = append(events, entry{"time": x.Time.UTC(), "name": x.Name, "attributes": values(x.Attributes)})
	}
	for _, l := range span.Links() {
		links = append(links, entry{"trace": l.SpanContext.TraceID(), "span": l.SpanContext.SpanID()})
	}
	if events != nil {
		e["events"] = events
	}
	if links != nil {
		e["links"] = links
	}
	s.report.addJSON("spans.jsonl", e)
}

// begin follows names as "etcdlock audit -o json" does, and has the exporter scraped each minute.
func (r *report) begin(ctx context.Context, f *fleet, names ...string) {
	r.began = time.Now()
	for _, name := range names {
		r.audits.Go(func() {
			_ = queues.Audit(ctx, f.exporter.Client, name, 0, func(e queues.Audited) error {
				r.addJSON("audit.jsonl", text.Legible(e))
				return nil
			})
		})
	}
	r.audits.Go(func() {
		for ; ctx.Err() == nil; sleep(ctx, time.Minute) {
			w := httptest.NewRecorder()
			f.exporter.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody))
			r.add("exporter.txt", "# at "+time.Now().UTC().Format(time.TimeOnly)+"\n")
			for line := range strings.Lines(w.Body.String()) {
				if !strings.HasPrefix(line, "#") {
					r.add("exporter.txt", line)
				}
			}
		}
	})
}

const about = `An hour of a service of three processes a, b and c on one etcd, from 00:01:00 to 01:01:00. It runs since 00:00:00.

alerts.txt     the alerts that have fired, and when
dashboard.csv  what the panels of the dashboard show, once a minute
dashboard.svg  the same as a picture, in minutes from 00:01:00; a red line is an alert
exporter.txt   what "etcdlock exporter" has served, once a minute
log.txt        the lines of LogTrace
spans.jsonl    the spans of module otel
audit.jsonl    "etcdlock audit -o json scheduler jobs/nightly-report"

What has happened, when, to which process, and why?
`

// write writes all files.
func (r *report) write(db *promdb.DB) {
	rules, err := promdb.Rules("alerts.yaml")
	require.NoError(r.t, err)
	end := r.began.Add(time.Hour)
	clock := func(at time.Time) string { return at.UTC().Format(time.TimeOnly) }
	var fired []promdb.Fired
	for _, rule := range rules {
		all, err := db.Fire(&rule, r.began, end, scrapes)
		require.NoError(r.t, err)
		fired = append(fired, all...)
	}
	slices.SortFunc(fired, func(a, b promdb.Fired) int { return a.From.Compare(b.From) })
	for _, a := range fired {
		r.add("alerts.txt", fmt.Sprintf("%s to %s  %s %s\n", clock(a.From), clock(a.To), a.Alert, a.Labels))
	}
	r.add("dashboard.csv", "time,panel,series,value\n")
	for _, p := range panels(r.t) {
		for _, q := range p.Targets {
			matrix, err := db.Range(resolve(q.Expr, time.Minute), r.began, end, time.Minute)
			require.NoError(r.t, err)
			for _, s := range matrix {
				for _, point := range s.Floats {
					r.add("dashboard.csv", fmt.Sprintf("%s,%s,%q,%g\n", clock(time.UnixMilli(point.T)), strings.ReplaceAll(p.Title, ",", ""), legend(q.LegendFormat, s.Metric), point.F))
				}
			}
		}
	}
	drawDashboard(r.t, r.path("dashboard.svg"), db, r.began)
	r.add("README.txt", about)
	for file, text := range r.files {
		require.NoError(r.t, os.WriteFile(r.path(file), []byte(text.String()), 0o600))
	}
}
