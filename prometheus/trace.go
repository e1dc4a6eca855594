package promlock

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/telemetry"
)

// Trace returns the hooks that feed the metrics, for [etcdlock.WithTrace].
func (m *Metrics) Trace() *etcdlock.Trace {
	t := &etcdlock.Trace{
		AcquireStart: func(ctx context.Context, i etcdlock.AcquireStartInfo) context.Context {
			labels := m.lock(i.Kind, i.Name)
			m.active.WithLabelValues(labels...).Inc()
			m.begin(labels, i)
			var kind lockLabels
			copy(kind[:], labels)
			return m.ages.Begin(ctx, kind)
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
			if i.From == 0 {
				m.beginSessions()
			} else {
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
	t.Role = func(_ context.Context, i etcdlock.RoleInfo) { m.enters(m.elections.Label(i.Election), i) }
	t.TermEnd = func(_ context.Context, i etcdlock.TermEndInfo) { m.termEnded(i) }
	t.LeaderSeen = func(_ context.Context, i etcdlock.LeaderSeenInfo) { m.leader(m.elections.Label(i.Election), i) }
	t.Stuck = func(_ context.Context, i etcdlock.StuckTerm) { m.isStuck(i) }
	t.Health = func(_ context.Context, i etcdlock.HealthInfo) {
		m.healthy.WithLabelValues(m.elections.Label(i.Election)).Set(one(i.Err == nil))
	}
}

// lock has the labels of a lock, and then further ones.
func (m *Metrics) lock(kind etcdlock.Kind, name string, more ...string) []string {
	labels := []string{kind.String()}
	if m.group != nil {
		labels = append(labels, m.groups.Label(m.group(name)))
	}
	return append(labels, more...)
}

// begun is what begin is called with.
type begun struct {
	labels         lockLabels
	election, mode string
}

// begin makes the series of a kind at its first call. A counter or a histogram whose first sample is
// above 0 has no increase in the eyes of Prometheus, so no alert or panel would see the first event.
// Paths, outcomes and ends that are rare begin with their first event, because each of them is a
// histogram.
func (m *Metrics) begin(labels []string, i etcdlock.AcquireStartInfo) {
	b := begun{mode: telemetry.Mode(i.Kind == etcdlock.KindElection, i.Try)}
	copy(b.labels[:], labels)
	if i.Kind == etcdlock.KindElection {
		b.election = m.elections.Label(i.Name)
	}
	if !m.begun.First(b) {
		return
	}
	with := func(more ...string) []string { return append(slices.Clone(labels), more...) }
	m.acquire.WithLabelValues(with(b.mode, etcdlock.PathFree.String(), "granted", "")...)
	if !i.Try && m.group == nil { // or a hundred groups would have twice as many series
		m.acquire.WithLabelValues(with(b.mode, etcdlock.PathQueued.String(), "granted", "")...)
	}
	m.hold.WithLabelValues(with(etcdlock.ErrorType(etcdlock.ErrReleased))...)
	for _, reason := range telemetry.Losses {
		m.losses.WithLabelValues(with(reason)...)
	}
	if i.Kind == etcdlock.KindElection {
		m.beginElection(b.election)
	}
}

func (m *Metrics) beginElection(name string) {
	m.leading.WithLabelValues(name)
	m.stuck.WithLabelValues(name)
	m.hangs.WithLabelValues(name)
	m.changes.WithLabelValues(name)
	m.vacancy.WithLabelValues(name)
	m.stop.WithLabelValues(name)
	m.term.WithLabelValues(name, etcdlock.ErrorType(etcdlock.ErrReleased))
	for _, reason := range telemetry.TermEnds {
		m.ends.WithLabelValues(name, reason)
	}
}

// beginSessions makes the series of sessions at the first one.
func (m *Metrics) beginSessions() {
	for _, s := range []etcdlock.State{etcdlock.StateConnected, etcdlock.StateSuspended, etcdlock.StateLost} {
		m.sessions.WithLabelValues(s.String())
		m.transitions.WithLabelValues(s.String())
	}
	m.transitions.WithLabelValues(etcdlock.StateClosed.String())
	m.renewal.WithLabelValues("")
}

func (m *Metrics) acquired(ctx context.Context, i etcdlock.AcquireEndInfo) {
	mode, path := telemetry.Mode(i.Kind == etcdlock.KindElection, i.Try), i.Path.String()
	if i.Err != nil {
		path = "none"
	}
	m.active.WithLabelValues(m.lock(i.Kind, i.Name)...).Dec()
	m.observe(ctx, m.acquire.WithLabelValues(m.lock(i.Kind, i.Name, mode, path, telemetry.Outcome(i.Err), etcdlock.ErrorType(i.Err))...), i.Waited)
	if i.Err != nil {
		m.ages.End(ctx)
	} else {
		m.ages.Granted(ctx)
		m.held.WithLabelValues(m.lock(i.Kind, i.Name)...).Inc()
		if i.Kind == etcdlock.KindElection {
			m.leading.WithLabelValues(m.elections.Label(i.Name)).Inc()
		}
	}
}

func (m *Metrics) ended(ctx context.Context, i etcdlock.HoldEndInfo) {
	m.ages.End(ctx)
	h, end := &i.Hold, etcdlock.ErrorType(i.Cause)
	m.held.WithLabelValues(m.lock(h.Kind, h.Name)...).Dec()
	m.observe(ctx, m.hold.WithLabelValues(m.lock(h.Kind, h.Name, end)...), i.Held)
	if errors.Is(i.Cause, etcdlock.ErrLost) {
		m.losses.WithLabelValues(m.lock(h.Kind, h.Name, end)...).Inc()
	}
	if h.Kind == etcdlock.KindElection {
		name := m.elections.Label(h.Name)
		m.leading.WithLabelValues(name).Dec()
		m.observe(ctx, m.term.WithLabelValues(name, end), i.Held)
	}
}

func (m *Metrics) renewed(i etcdlock.RenewalInfo) {
	m.renewal.WithLabelValues(etcdlock.ErrorType(i.Err)).Observe(i.RTT.Seconds())
	m.low.Add(i.Left, time.Now())
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
