package promlock

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock"
)

// Trace returns the hooks that feed the metrics, for [etcdlock.WithTrace].
func (m *Metrics) Trace() *etcdlock.Trace {
	t := &etcdlock.Trace{
		AcquireStart: func(ctx context.Context, i etcdlock.AcquireStartInfo) context.Context {
			labels := m.lock(i.Kind, i.Name)
			m.active.WithLabelValues(labels...).Inc()
			m.begin(labels, i)
			return m.ages.begin(ctx, labels)
		},
		Queued: func(_ context.Context, i etcdlock.QueuedInfo) {
			m.ahead.WithLabelValues(m.lock(i.Kind, i.Name)...).Observe(float64(i.Ahead))
		},
		AcquireEnd: m.acquired,
		HoldEnd:    m.ended,
		Deadlock:   func(context.Context, etcdlock.DeadlockInfo) { m.deadlocks.Inc() },
		Asked:      func(context.Context, etcdlock.AskedInfo) { m.asked.Inc() },
		LeftBehind: func(context.Context, etcdlock.LeftBehindInfo) { m.leftBehind.Inc() },
		Renewal:    func(_ context.Context, i etcdlock.RenewalInfo) { m.renewed(i) },
		SessionState: func(_ context.Context, i etcdlock.SessionStateInfo) {
			if i.From != 0 {
				m.sessions.WithLabelValues(i.From.String()).Dec()
			}
			if i.To != etcdlock.StateClosed {
				m.sessions.WithLabelValues(i.To.String()).Inc()
			}
			m.transitions.WithLabelValues(i.To.String()).Inc()
		},
	}
	m.traceElections(t)
	return t
}

func (m *Metrics) traceElections(t *etcdlock.Trace) {
	t.Role = func(_ context.Context, i etcdlock.RoleInfo) { m.enters(m.elections.label(i.Election), i) }
	t.TermEnd = func(_ context.Context, i etcdlock.TermEndInfo) {
		if i.Told != nil {
			m.stop.WithLabelValues(m.elections.label(i.Election)).Observe(i.Stop.Seconds())
		}
	}
	t.LeaderSeen = func(_ context.Context, i etcdlock.LeaderSeenInfo) { m.leader(m.elections.label(i.Election), i) }
	t.Stuck = func(_ context.Context, i etcdlock.StuckTerm) {
		m.stuck.WithLabelValues(m.elections.label(i.Term.Name())).Inc()
	}
	t.Health = func(_ context.Context, i etcdlock.HealthInfo) {
		m.healthy.WithLabelValues(m.elections.label(i.Election)).Set(one(i.Err == nil))
	}
}

// lock has the labels of a lock, and then further ones.
func (m *Metrics) lock(kind etcdlock.Kind, name string, more ...string) []string {
	labels := []string{kind.String()}
	if m.group != nil {
		labels = append(labels, m.groups.label(m.group(name)))
	}
	return append(labels, more...)
}

// lossTypes are the reasons for losses for which an operator has a runbook. A session or a client that
// was closed is none.
var lossTypes = []string{"expired", "revoked", "evicted", "rolled_back", "orphaned", "no_progress"}

// begin makes the counters of a kind at its first call. A counter whose first sample is above 0 has no
// increase in the eyes of Prometheus, so no alert would see the first loss.
func (m *Metrics) begin(labels []string, i etcdlock.AcquireStartInfo) {
	key := strings.Join(labels, "\xff")
	name := ""
	if i.Kind == etcdlock.KindElection {
		name = m.elections.label(i.Name)
		key += "\xff" + name
	}
	m.mu.Lock()
	begun := m.begun[key]
	m.begun[key] = true
	m.mu.Unlock()
	if begun {
		return
	}
	for _, reason := range lossTypes {
		m.losses.WithLabelValues(append(slices.Clone(labels), reason)...)
	}
	if i.Kind == etcdlock.KindElection {
		m.leading.WithLabelValues(name)
		m.stuck.WithLabelValues(name)
		m.changes.WithLabelValues(name)
		m.vacancy.WithLabelValues(name)
		m.stop.WithLabelValues(name)
	}
}

func (m *Metrics) acquired(ctx context.Context, i etcdlock.AcquireEndInfo) {
	mode, path, outcome := "wait", i.Path.String(), "granted"
	switch {
	case i.Kind == etcdlock.KindElection:
		mode = "campaign"
	case i.Try:
		mode = "try"
	}
	if i.Err != nil {
		path = "none"
		switch {
		case errors.Is(i.Err, context.Canceled), errors.Is(i.Err, context.DeadlineExceeded):
			outcome = "gave_up"
		case errors.Is(i.Err, etcdlock.ErrLocked):
			outcome = "locked"
		default:
			outcome = "failed"
		}
	}
	m.active.WithLabelValues(m.lock(i.Kind, i.Name)...).Dec()
	m.observe(ctx, m.acquire.WithLabelValues(m.lock(i.Kind, i.Name, mode, path, outcome, etcdlock.ErrorType(i.Err))...), i.Waited)
	if i.Err != nil {
		m.ages.end(ctx)
	} else {
		m.ages.granted(ctx)
		m.held.WithLabelValues(m.lock(i.Kind, i.Name)...).Inc()
		if i.Kind == etcdlock.KindElection {
			m.leading.WithLabelValues(m.elections.label(i.Name)).Inc()
		}
	}
}

func (m *Metrics) ended(ctx context.Context, i etcdlock.HoldEndInfo) {
	m.ages.end(ctx)
	h, end := &i.Hold, etcdlock.ErrorType(i.Cause)
	m.held.WithLabelValues(m.lock(h.Kind, h.Name)...).Dec()
	m.observe(ctx, m.hold.WithLabelValues(m.lock(h.Kind, h.Name, end)...), i.Held)
	if errors.Is(i.Cause, etcdlock.ErrLost) {
		m.losses.WithLabelValues(m.lock(h.Kind, h.Name, end)...).Inc()
	}
	if h.Kind == etcdlock.KindElection {
		name := m.elections.label(h.Name)
		m.leading.WithLabelValues(name).Dec()
		m.observe(ctx, m.term.WithLabelValues(name, end), i.Held)
	}
}

func (m *Metrics) renewed(i etcdlock.RenewalInfo) {
	m.renewal.WithLabelValues(etcdlock.ErrorType(i.Err)).Observe(i.RTT.Seconds())
	m.low.add(i.Left, time.Now())
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
