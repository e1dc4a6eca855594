// Package concurrency has the names and signatures of etcd's own package
// go.etcd.io/etcd/client/v3/concurrency for sessions, locks and elections, on top of etcdlock. A
// program changes only the import path:
//
//	import "go.etcd.io/etcd/client/v3/concurrency"            // before
//	import "github.com/etcdlock/etcdlock/compat/concurrency"  // after
//
// Both packages put the same keys into etcd, so processes with either one exclude each other, and a
// fleet can be migrated one process at a time. The errors are etcd's own values, so that code with the
// old import can compare with them.
//
// This package is for the migration. New code uses etcdlock itself. Its handles each represent one
// acquisition. [Mutex.Hold] and [Election.Term] return these handles.
//
// # What is better without a change of code
//
// A session ends before another process can acquire its locks. Its deadline counts from the time at
// which its last answered renewal was sent. A session of etcd's package may continue for seconds.
//
// Lock and Campaign return nil only with proof that their key exists. They keep their place in the
// queue over compactions and lost watches. After an error they leave nothing in etcd. Unlock and
// Resign continue in the background if etcd does not answer. Observe continues after a lost watch
// instead of closing its channel. Everything is safe for concurrent use.
//
// # What is different, because the old behaviour is unsafe
//
// A session that locks a name twice waits for itself. In etcd's package both calls succeed, and two
// goroutines of one session hold the lock at once. Here they take turns. A program that locks twice on
// purpose needs [WithReentry]. The first such wait of a session is logged.
//
// Unlock and Resign return an error, not nil, if the lock or the leadership was lost before, because
// another process may have held it.
//
// A session that has ended cannot be used. etcd's package allows a campaign on the lease of an
// orphaned session while the lease exists.
//
// "locks" and "locks/a" cannot be held at the same time, see [etcdlock.ErrNestedName]. With etcd's
// package the first waits for holders of the second, but the second does not wait for the first. The
// empty prefix is refused, see [etcdlock.ErrInvalidName].
//
// docs/migration-etcd.md has all differences, line by line.
//
// # What is not here
//
// The software transactional memory (NewSTM and its types) is not about locks. A program that uses it
// imports both packages. A function with a parameter for a session of etcd's package, such as the ones
// in client/v3/experimental/recipes, does not accept a session of this package.
package concurrency
