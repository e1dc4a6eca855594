// Package mixin has alert rules and a dashboard for programs that use etcdlock. Its tests evaluate all
// queries by the engine of Prometheus.
package mixin

// panel is one panel of the dashboard.
type panel struct {
	title, help string
	unit        string // of Grafana
	queries     []query
}

// query is one query of a panel.
type query struct{ expr, legend string }

// row is a row of panels.
type row struct {
	title  string
	panels []panel
}

// job selects the processes that the dashboard is of.
const job = `{job=~"$job"}`

var rows = []row{
	{"Leaders", []panel{
		{title: "Leading", help: "1 for the process that leads. Two at once for more than one scrape are an incident.", unit: "short",
			queries: []query{{`sum by (name, instance) (etcdlock_election_leading` + job + `)`, "{{name}}: {{instance}}"}}},
		{title: "Changes of the leader in 15 minutes", unit: "short",
			queries: []query{{`max by (name) (increase(etcdlock_election_changes_total` + job + `[15m]))`, "{{name}}"}}},
		{title: "Time without a leader in 5 minutes", help: "As the process has seen it that has seen most of it.", unit: "s",
			queries: []query{{`max by (name) (increase(etcdlock_election_vacancy_duration_seconds_sum` + job + `[5m]))`, "{{name}}"}}},
		{title: "Ends of terms in 5 minutes", help: "Functions of Election.Run that have returned, by the reason.", unit: "short",
			queries: []query{{`sum by (name, reason) (increase(etcdlock_election_term_ends_total` + job + `[5m])) > 0`, "{{name}}: {{reason}}"}}},
		{title: "Work that does not stop", help: "The mean time that the work of a term took to return after it was told to stop, and how many are stuck now.", unit: "s",
			queries: []query{
				{`sum by (name) (increase(etcdlock_election_stop_duration_seconds_sum` + job + `[5m])) / sum by (name) (increase(etcdlock_election_stop_duration_seconds_count` + job + `[5m]))`, "{{name}}: stopped after"},
				{`sum by (name) (etcdlock_election_stuck_terms` + job + `)`, "{{name}}: stuck"},
			}},
	}},
	{"Locks", []panel{
		{title: "Acquisitions", unit: "ops",
			queries: []query{{`sum by (outcome, path) (rate(etcdlock_acquire_duration_seconds_count` + job + `[$__rate_interval]))`, "{{outcome}} {{path}}"}}},
		// A high quantile of few events is wrong: increase() does not extrapolate all buckets alike.
		{title: "Time to acquire", help: "The median, and the longest of the last minute or two.", unit: "s",
			queries: []query{
				{`histogram_quantile(0.5, sum by (kind, le) (rate(etcdlock_acquire_duration_seconds_bucket{job=~"$job",kind!="election"}[$__rate_interval])))`, "{{kind}} median"},
				{`max by (kind) (etcdlock_acquire_longest_seconds{job=~"$job",kind!="election"})`, "{{kind}} longest"},
			}},
		{title: "Calls that wait", unit: "short",
			queries: []query{{`sum by (kind) (etcdlock_acquire_active` + job + `)`, "{{kind}}"}}},
		{title: "Oldest call", unit: "s",
			queries: []query{{`max by (kind) (etcdlock_acquire_oldest_seconds{job=~"$job",kind!="election"})`, "{{kind}}"}}},
		{title: "Calls and entries ahead, mean", unit: "short",
			queries: []query{{`sum by (kind) (rate(etcdlock_acquire_ahead_sum` + job + `[5m])) / sum by (kind) (rate(etcdlock_acquire_ahead_count` + job + `[5m]))`, "{{kind}}"}}},
	}},
	{"Holds", []panel{
		{title: "Holds", unit: "short", queries: []query{
			{`sum by (kind) (etcdlock_hold_active` + job + `)`, "{{kind}}"},
			{`sum(etcdlock_retention_keys` + job + `)`, "kept without a holder"},
		}},
		{title: "Duration of holds", help: "The median, and the longest of the last minute or two.", unit: "s",
			queries: []query{
				{`histogram_quantile(0.5, sum by (kind, le) (rate(etcdlock_hold_duration_seconds_bucket{job=~"$job",kind!="election"}[$__rate_interval])))`, "{{kind}} median"},
				{`max by (kind) (etcdlock_hold_longest_seconds{job=~"$job",kind!="election"})`, "{{kind}} longest"},
			}},
		{title: "Oldest hold", unit: "s",
			queries: []query{{`max by (kind) (etcdlock_hold_oldest_seconds{job=~"$job",kind!="election"})`, "{{kind}}"}}},
		{title: "Holds lost in 5 minutes", unit: "short",
			queries: []query{{`sum by (instance, kind, reason) (increase(etcdlock_hold_losses_total` + job + `[5m])) > 0`, "{{instance}}: {{kind}} {{reason}}"}}},
		{title: "Refused checks of fences in 5 minutes", help: "A stale check is a write of a former holder that was refused.", unit: "short",
			queries: []query{{`sum by (store, instance, outcome) (increase(etcdlock_fence_checks_total{job=~"$job",outcome!="accepted"}[5m])) > 0`, "{{store}}: {{outcome}} {{instance}}"}}},
	}},
	{"Sessions", []panel{
		{title: "Sessions", unit: "short", queries: []query{{`sum by (state) (etcdlock_session_count` + job + `)`, "{{state}}"}}},
		{title: "Time until holds end", help: "The lowest of the last minute. Holds are lost at 0.", unit: "s",
			queries: []query{{`min by (instance) (etcdlock_lease_remaining_low_seconds` + job + `)`, "{{instance}}"}}},
		{title: "Renewals of leases, 99 %", unit: "s",
			queries: []query{{`histogram_quantile(0.99, sum by (error_type, le) (rate(etcdlock_lease_renewal_duration_seconds_bucket` + job + `[$__rate_interval])))`, "renewal {{error_type}}"}}},
		{title: "Keys to delete", unit: "short",
			queries: []query{{`sum by (instance) (etcdlock_cleanup_pending` + job + `)`, "{{instance}}"}}},
		{title: "Deadlocks and requests to release in 5 minutes", unit: "short", queries: []query{
			{`sum(increase(etcdlock_deadlock_detections_total` + job + `[5m]))`, "deadlocks"},
			{`sum(increase(etcdlock_request_received_total` + job + `[5m]))`, "requests to release"},
		}},
	}},
	{"What etcd has (etcdlock exporter)", []panel{
		{title: "Entries of queues", unit: "short",
			queries: []query{{`topk(10, sum by (name, state) (etcdlock_queue_entries) > 0)`, "{{name}}: {{state}}"}}},
		{title: "Oldest wait", unit: "s",
			queries: []query{{`topk(10, max by (name) (etcdlock_queue_oldest_wait_seconds) > 0)`, "{{name}}"}}},
		{title: "Age of the oldest hold", unit: "s",
			queries: []query{{`topk(10, max by (name) (etcdlock_holder_age_seconds) > 0)`, "{{name}}"}}},
		{title: "Rest of the holder's lease", unit: "s",
			queries: []query{{`bottomk(10, min by (name) (etcdlock_holder_lease_remaining_seconds))`, "{{name}}"}}},
		{title: "Without a leader, stray keys, deadlocks", unit: "short", queries: []query{
			{`max by (name) (etcdlock_election_vacant)`, "{{name}} has no leader"},
			{`max(etcdlock_stray_keys)`, "stray keys"},
			{`max(etcdlock_deadlocks)`, "deadlocks"},
			{`1 - max(etcdlock_exporter_up)`, "etcd does not answer"},
		}},
	}},
}
