// Package gocronlock lets gocron schedulers in several processes share their jobs, by a
// [Locker] or an [Elector] on etcdlock.
//
// With an Elector one process runs all jobs, and another takes over when it is gone. With a
// Locker each run of a job goes to the process that comes first. gocron recommends the
// Elector, as it does not depend on the clocks of the processes.
package gocronlock
