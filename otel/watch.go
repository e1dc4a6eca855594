package otellock

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/etcdlock/etcdlock"
)

// Watch adds the figures of a session's Stats, until the session has ended.
func (t *Telemetry) Watch(s *etcdlock.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watched[s] = true
}

// observables makes the instruments that are read when metrics are collected.
func (t *Telemetry) observables(m metric.Meter) error {
	var failed []error
	seconds := func(name, help string) metric.Float64ObservableGauge {
		g, err := m.Float64ObservableGauge("etcdlock."+name, metric.WithUnit("s"), metric.WithDescription(help))
		failed = append(failed, err)
		return g
	}
	times := [4]metric.Float64ObservableGauge{
		seconds("acquire.oldest", "How long the oldest call under way has lasted that acquires a lock or campaigns."),
		seconds("acquire.longest", "How long the longest of these calls took that have ended in the last minute or two."),
		seconds("hold.oldest", "How long the oldest hold has lasted."),
		seconds("hold.longest", "How long the longest hold has lasted that has ended in the last minute or two."),
	}
	rest := seconds("lease.remaining", "The shortest time until the holds of a session end, unless a renewal is answered.")
	lowest := seconds("lease.remaining.low", "The shortest such time of the last minute or two, at an answer to a renewal.")
	pending, err := m.Int64ObservableGauge("etcdlock.cleanup.pending", metric.WithUnit("{key}"), metric.WithDescription("Keys that are still to be deleted."))
	failed = append(failed, err)
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for kind, of := range t.ages.Read() {
			for i, d := range [4]time.Duration{of.OldestCall, of.LongestCall, of.OldestHold, of.LongestHold} {
				o.ObserveFloat64(times[i], d.Seconds(), metric.WithAttributeSet(kind))
			}
		}
		sessions := t.sample()
		if low, _, ok := t.low.Read(time.Now()); ok {
			o.ObserveFloat64(lowest, low.Seconds())
		}
		var left time.Duration
		keys := 0
		for i, s := range sessions {
			stats := s.Stats()
			keys += stats.LeftBehind
			if i == 0 || stats.LeaseRemaining < left {
				left = stats.LeaseRemaining
			}
		}
		if len(sessions) > 0 {
			o.ObserveFloat64(rest, left.Seconds())
			o.ObserveInt64(pending, int64(keys))
		}
		return nil
	}, times[0], times[1], times[2], times[3], rest, lowest, pending)
	return errors.Join(append(failed, err)...)
}

// sample returns the sessions that go on.
func (t *Telemetry) sample() (sessions []*etcdlock.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.watched {
		if s.Err() != nil {
			delete(t.watched, s)
			continue
		}
		sessions = append(sessions, s)
	}
	return sessions
}
