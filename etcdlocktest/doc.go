// Package etcdlocktest tests programs that lock with etcdlock, without an etcd and without waiting.
//
// A test gets an etcd in memory and any number of processes on it. The code under test gets a client
// or a session of a process, as in production:
//
//	func TestBillingMovesOver(t *testing.T) {
//		etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
//			a, b := etcd.Process("a"), etcd.Process("b")
//			store := etcd.Guarded("invoices")
//			go billing.Run(t.Context(), a.Session(), store)
//			go billing.Run(t.Context(), b.Session(), store)
//			etcd.AwaitHeldBy("billing", "a")
//			a.Cut()
//			etcd.AwaitHeldBy("billing", "b")
//		})
//	}
//
// # Virtual time
//
// [Run] plays the test in a bubble of testing/synctest. Time passes only while every goroutine of
// the test waits, so an hour costs milliseconds, and the expiry of a lease costs nothing. [New] gives
// the same etcd by the wall clock. [Real] gives a real etcd, for the same test functions.
//
// # Faults
//
// A [Process] loses its network in either direction, gets slow or unanswered renewals, is paused,
// and is killed. The [Etcd] stops, hangs, compacts and changes its leader, and revokes what is held.
// [Etcd.Intercept] decides on every single request.
//
// # What a test checks
//
// A [Guarded] resource fails the test if two processes are inside at the same time. At the end of
// the test everything has to be released: [Etcd.NothingLeft] fails the test with the stack of the
// call that took what is left.
//
// # Pitfalls in virtual time
//
//   - A bubble has no network. Pass the client or the session into the code under test, and give it
//     fakes for its other connections.
//   - A goroutine that waits for a sync.Mutex keeps time from passing. Code that holds a mutex while it
//     sleeps or waits for a lock blocks without end if another goroutine wants that mutex.
//   - A channel that was made outside the bubble cannot be used inside. Make it in the test function.
//   - Every goroutine has to end before the test does. Start them with t.Context(), which ends first.
//   - Crash detection listens on the network, and works with New and Real only.
package etcdlocktest
