// Package gocronlock lets gocron schedulers in several processes share their jobs, by a
// [Locker] or an [Elector] on etcdlock.
//
// With an Elector one process runs all jobs, and another process takes over after its end. With a
// Locker the first process that locks a run of a job executes it. gocron recommends the Elector,
// because it does not depend on the clocks of the processes.
package gocronlock
