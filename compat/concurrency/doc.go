// Package concurrency has the names and signatures of etcd's own package
// go.etcd.io/etcd/client/v3/concurrency for sessions, locks and elections, on top of
// etcdlock. A program changes the import path, and nothing else:
//
//	import "go.etcd.io/etcd/client/v3/concurrency"            // before
//	import "github.com/etcdlock/etcdlock/compat/concurrency"  // after
//
// Both put the same keys into etcd, so that processes on either exclude each other, and a
// fleet moves over one process at a time. The errors are etcd's own values, so that a
// comparison with them holds in code that still has the old import.
//
// It is meant for the move. New code uses etcdlock itself, with a handle for each
// acquisition. [Mutex.Hold] and [Election.Term] return these handles for acquisitions here.
//
// # What is better by itself
//
// A session ends on time, counted from when its last answered renewal was sent, and so
// before anybody else can have what it held; etcd's may go on for seconds. Lock and
// Campaign return nil only with proof that the own key is there; they keep their place
// over compactions and lost watches; they leave nothing behind when they fail. Unlock and
// Resign go on in the background when etcd does not answer. Observe takes up again
// instead of closing its channel. Everything is safe for concurrent use.
//
// # What is different, because the old way is unsafe
//
// A session that locks a name twice waits for itself. In etcd's package both calls
// succeed, and two goroutines that share a session are both inside; here they take turns.
// A program that locks twice on purpose has to say so with [WithReentry]. The first such
// wait of a session is logged.
//
// Unlock and Resign of what was lost meanwhile return an error, not nil: somebody else
// may have been inside.
//
// A session that has ended does nothing any more: etcd's lets one campaign on the lease
// of an orphaned session for as long as that lasts.
//
// "locks" and "locks/a" cannot be held at one time, see [etcdlock.ErrNestedName]: with
// etcd's package the first waits for holders of the second, and not the other way round.
// The empty prefix is refused, see [etcdlock.ErrInvalidName].
//
// docs/migration-etcd.md has all differences, line by line.
//
// # What is not here
//
// The software transactional memory (NewSTM and what belongs to it): it is not about
// locks, and stays where it is. A program that uses it too imports both packages. What
// takes a session of etcd's package for a parameter (as client/v3/experimental/recipes
// does) cannot be given one of this package.
package concurrency
