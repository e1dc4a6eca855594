package promlock

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// mostTraceID is how long the ID of a trace may be. client_golang panics beyond
// prometheus.ExemplarMaxRunes, which counts the name of the label too.
const mostTraceID = prometheus.ExemplarMaxRunes - len("trace_id")

// observe observes a duration, with the trace of ctx as its exemplar.
func (m *Metrics) observe(ctx context.Context, o prometheus.Observer, d time.Duration) {
	with, ok := o.(prometheus.ExemplarObserver)
	if m.traceID == nil || !ok {
		o.Observe(d.Seconds())
		return
	}
	id := m.traceID(ctx)
	if id == "" || len(id) > mostTraceID || !utf8.ValidString(id) {
		o.Observe(d.Seconds())
		return
	}
	with.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": id})
}
