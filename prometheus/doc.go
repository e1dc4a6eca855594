// Package promlock has the metrics of etcdlock for Prometheus.
//
//	metrics := promlock.New()
//	prometheus.MustRegister(metrics)
//	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTrace(metrics.Trace()))
//	metrics.Watch(session)
//
// One Metrics serves all sessions of a process. Its labels are kinds and other words from short lists,
// so the number of series does not grow with the number of locks. The names of locks are no labels
// unless [WithNames] maps them to groups. The names of elections are labels, for the first [MaxNames].
//
// A session of which Watch was not called is counted too, except for the figures of
// [etcdlock.Session.Stats].
package promlock
