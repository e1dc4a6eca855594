package otellock

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// Trace returns the hooks that feed the instruments, for [etcdlock.WithTrace].
func (t *Telemetry) Trace() *etcdlock.Trace {
	hooks := &etcdlock.Trace{
		AcquireStart: t.start,
		Traceparent:  t.traceparent,
		Queued: func(ctx context.Context, i etcdlock.QueuedInfo) {
			t.ahead.Record(ctx, int64(i.Ahead), t.lock(i.Kind, i.Name))
			t.span(ctx).AddEvent("queued", trace.WithAttributes(attribute.Int("etcdlock.ahead", i.Ahead)))
		},
		AcquireEnd: t.acquired,
		HoldEnd:    t.ended,
		ReleaseEnd: t.released,
		Deadlock:   func(ctx context.Context, _ etcdlock.DeadlockInfo) { t.deadlocks.Add(ctx, 1) },
		Asked:      func(ctx context.Context, _ etcdlock.AskedInfo) { t.asked.Add(ctx, 1) },
		LeftBehind: func(ctx context.Context, _ etcdlock.LeftBehindInfo) { t.leftBehind.Add(ctx, 1) },
		Renewal: func(ctx context.Context, i etcdlock.RenewalInfo) {
			t.renewal.Record(ctx, i.RTT.Seconds(), metric.WithAttributes(errorType(i.Err)...))
			t.low.Add(i.Left, time.Now())
		},
		SessionState: func(ctx context.Context, i etcdlock.SessionStateInfo) {
			if i.From != 0 {
				t.sessions.Add(ctx, -1, sessionState(i.From))
			}
			if i.To != etcdlock.StateClosed {
				t.sessions.Add(ctx, 1, sessionState(i.To))
			}
			t.transitions.Add(ctx, 1, sessionState(i.To))
		},
		TermEnd:    t.termEnded,
		LeaderSeen: t.leader,
		Stuck: func(ctx context.Context, i etcdlock.StuckTerm) {
			t.stuck.Add(ctx, 1, t.election(i.Term.Name()))
			t.hangs.Add(ctx, 1, t.election(i.Term.Name()))
			t.terms.Add(i.Term.Name(), i.Term.CreateRevision())
		},
	}
	return hooks
}

// lock has the attributes of a lock, and further ones.
func (t *Telemetry) lock(kind etcdlock.Kind, name string, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(t.attributes(kind, name, more...))
}

func (t *Telemetry) attributes(kind etcdlock.Kind, name string, more ...attribute.KeyValue) attribute.Set {
	all := append(slices.Clip(more), attribute.String("etcdlock.kind", kind.String())) // a copy, which NewSet sorts
	if t.group != nil {
		all = append(all, attribute.String("etcdlock.group", t.groups.Label(t.group(name))))
	}
	return attribute.NewSet(all...)
}

func (t *Telemetry) election(name string, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, attribute.String("etcdlock.election.name", t.elections.Label(name)))...)
}

func sessionState(s etcdlock.State) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("etcdlock.session.state", s.String()))
}

// errorType is the attribute error.type; none for nil.
func errorType(err error) []attribute.KeyValue {
	if err == nil {
		return nil
	}
	return []attribute.KeyValue{attribute.String("error.type", etcdlock.ErrorType(err))}
}

func (t *Telemetry) start(ctx context.Context, i etcdlock.AcquireStartInfo) context.Context {
	kind := t.attributes(i.Kind, i.Name)
	t.active.Add(ctx, 1, metric.WithAttributeSet(kind))
	t.beginKind(ctx, kind, i)
	if i.Kind == etcdlock.KindElection {
		t.beginElection(ctx, i.Name)
	}
	ctx, span := t.tracer.Start(ctx, "etcdlock.acquire", trace.WithAttributes(
		attribute.String("etcdlock.kind", i.Kind.String()), attribute.String("etcdlock.name", i.Name), attribute.Bool("etcdlock.try", i.Try)))
	return t.ages.Begin(context.WithValue(ctx, spanKey{t}, span), kind)
}

// spanKey finds the span of a call. Another trace may have put its own span around it.
type spanKey struct{ of *Telemetry }

func (t *Telemetry) span(ctx context.Context) trace.Span {
	if s, ok := ctx.Value(spanKey{t}).(trace.Span); ok {
		return s
	}
	return trace.SpanFromContext(context.Background()) // does nothing
}

// traceparent has the span of a call for the value of its key, if the span is sampled.
func (t *Telemetry) traceparent(ctx context.Context) string {
	s := t.span(ctx).SpanContext()
	if !s.IsValid() || !s.IsSampled() {
		return ""
	}
	return "00-" + s.TraceID().String() + "-" + s.SpanID().String() + "-" + s.TraceFlags().String()
}

// link is a link to the span of a traceparent. ok is false if there is none.
func link(traceparent string) (l trace.Link, ok bool) {
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	l.SpanContext = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	return l, l.SpanContext.IsValid()
}

func (t *Telemetry) acquired(ctx context.Context, i etcdlock.AcquireEndInfo) {
	span := t.span(ctx)
	t.active.Add(ctx, -1, t.lock(i.Kind, i.Name))
	attributes := append(errorType(i.Err), attribute.String("etcdlock.mode", telemetry.Mode(i.Kind == etcdlock.KindElection, i.Try)), attribute.String("etcdlock.outcome", telemetry.Outcome(i.Err)))
	if i.Err == nil {
		attributes = append(attributes, attribute.String("etcdlock.path", i.Path.String()))
		t.held.Add(ctx, 1, t.lock(i.Kind, i.Name))
		if i.Kind == etcdlock.KindElection {
			t.leading.Add(ctx, 1, t.election(i.Name))
		}
		t.ages.Granted(ctx)
		span.AddEvent("granted", trace.WithAttributes(held(&i.Hold)...))
	} else {
		t.ages.End(ctx)
		span.SetStatus(codes.Error, i.Err.Error())
	}
	t.acquire.Record(ctx, i.Waited.Seconds(), t.lock(i.Kind, i.Name, attributes...))
	if holder, ok := link(i.Behind); ok {
		span.AddLink(holder)
	}
	span.SetAttributes(attributes...)
	span.End()
}

// held has the attributes of a hold, for spans.
func held(h *etcdlock.HoldInfo) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("etcdlock.name", h.Name), attribute.String("etcdlock.key", h.Key),
		attribute.Int64("etcdlock.token", h.Token), attribute.Int64("etcdlock.create_revision", h.CreateRevision),
	}
}

func (t *Telemetry) ended(ctx context.Context, i etcdlock.HoldEndInfo) {
	t.ages.End(ctx)
	h, end := &i.Hold, attribute.String("etcdlock.end", etcdlock.ErrorType(i.Cause))
	t.held.Add(ctx, -1, t.lock(h.Kind, h.Name))
	t.hold.Record(ctx, i.Held.Seconds(), t.lock(h.Kind, h.Name, end))
	if errors.Is(i.Cause, etcdlock.ErrLost) {
		t.losses.Add(ctx, 1, t.lock(h.Kind, h.Name, end))
	}
	if h.Kind == etcdlock.KindElection {
		t.leading.Add(ctx, -1, t.election(h.Name))
		t.term.Record(ctx, i.Held.Seconds(), t.election(h.Name, end))
	}
}

// released makes the span of a release, whose parent is that of the acquisition.
func (t *Telemetry) released(ctx context.Context, i etcdlock.ReleaseEndInfo) {
	_, span := t.tracer.Start(ctx, "etcdlock.release", trace.WithTimestamp(time.Now().Add(-i.Took)), trace.WithAttributes(held(&i.Hold)...))
	if i.Err != nil {
		span.SetAttributes(errorType(i.Err)...)
		span.SetStatus(codes.Error, i.Err.Error())
	}
	span.End()
}

// leader counts changes of the leader, and measures the time without one.
func (t *Telemetry) leader(ctx context.Context, i etcdlock.LeaderSeenInfo) {
	seen := telemetry.Leader{CreateRevision: i.Leader.CreateRevision, Revision: i.Leader.Revision, Run: i.Run}
	changed, vacant := t.leaders.See(t.elections.Label(i.Election), seen, time.Now())
	if changed {
		t.changes.Add(ctx, 1, t.election(i.Election))
	}
	if vacant > 0 {
		t.vacancy.Record(ctx, vacant.Seconds(), t.election(i.Election))
	}
}

// termEnded counts the end of the work of a term.
func (t *Telemetry) termEnded(ctx context.Context, i etcdlock.TermEndInfo) {
	reason := telemetry.TermEnd(i.Told, i.Lost, i.Err, etcdlock.ErrorType)
	t.ends.Add(ctx, 1, t.election(i.Election, attribute.String("etcdlock.reason", reason)))
	if i.Told != nil {
		t.stop.Record(ctx, i.Stop.Seconds(), t.election(i.Election))
	}
	if t.terms.Returned(i.Election, i.CreateRevision) {
		t.hangs.Add(ctx, -1, t.election(i.Election))
	}
}
