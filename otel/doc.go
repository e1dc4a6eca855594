// Package otellock has the metrics and spans of etcdlock for OpenTelemetry.
//
//	telemetry, err := otellock.New(otel.GetMeterProvider(), otel.GetTracerProvider())
//	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTrace(telemetry.Trace()))
//
// One Telemetry serves all sessions of a process. A call that acquires is a span etcdlock.acquire,
// with an event when it is queued, and a release is a span etcdlock.release. The name, the key and the
// token are attributes of spans only. The attributes of metrics are kinds and other words from short
// lists, so the number of series does not grow with the number of locks. The names of elections are
// attributes, for the first [MaxNames].
package otellock
