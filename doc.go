// Package etcdlock provides distributed locks and leader election on etcd.
//
//	session, err := etcdlock.NewSession(ctx, client)          // one for a process
//	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(ctx)
//	// work under lock.Context(), send lock.Token() along with what it writes
//	err = lock.Unlock(ctx)
//
// A [Session] wraps a lease and keeps it alive. A [Mutex], an [RWMutex], a [Semaphore] and an
// [Election] put keys under this lease, one for each contender, in a queue that is ordered by
// etcd's revisions. A [Lock], a [WriteLock], a [ReadLock], a [Permit] and a [Term] are one
// acquisition each. A function that takes any of them takes a [Held].
//
// # One queue, many rules
//
// All kinds use the same queue, and therefore exclude each other under one name. They differ in
// when an entry is admitted:
//
//	Mutex, Election, writer    no older entry is left
//	reader                     all older entries are readers
//	n permits of a limit       all older entries want permits, and together with these n
//	                           they are at most the limit, whether they hold or wait
//	MultiMutex                 as Mutex, in all queues, entered at one revision
//
// An entry is admitted by looking only at older entries. A waiter is therefore never overtaken: not
// a writer by a later reader, nor a large request by a later small one.
//
// [ReadLock.Upgrade] is the one exception. Once a reader has announced an upgrade, no later entry
// is admitted, and neither is any entry behind the first waiting writer. The upgrading reader waits
// only for the readers ahead of that writer. If two readers announce an upgrade, the earlier one
// proceeds.
//
// # Guarantees
//
// Exclusion by deadline. A hold ends in this process before any other session can acquire the lock:
//
//	validUntil = sentAt(last answered renewal) + grantedTTL - margin
//
// sentAt is the time at which the answered request was sent. etcd counts the TTL from the time at
// which it received that request, which was later. The keys therefore exist in etcd at least until
// sentAt + grantedTTL, and the next waiter is granted only after that. It does not matter how long
// the answer took, nor whether etcd can be reached at all: at validUntil a timer of the lease
// cancels the context of every hold. The clock continues while the machine sleeps. The margin
// ([WithMargin]) covers clocks that run at different rates, and leaves the work time to stop. It is
// a tenth of the TTL by default, where computers' clocks differ by less than a thousandth.
//
// Grant by proof. A call such as Lock succeeds only on evidence, at one revision of etcd, that no
// older entry is in the way and that its own key exists. The evidence is the transaction that wrote
// the key, one read, or one watch on the whole queue that has seen the older keys go and its own
// key stay. Two watches prove nothing, because one may lag behind the other. Once no older entry is
// left, none can appear, because new entries get higher revisions. Any member of the cluster may
// therefore report it. The own key can disappear, but not before the deadline unless another client
// deletes it (see below).
//
// Fencing. [Held.Token] is the revision of that evidence. It is the revision at which the own key
// was created if the queue was empty, otherwise a revision at which no older entry was left. The
// holder's key exists at this revision, so the revision is before the deletion of that key. The
// next holder's token is a revision at or after this deletion. Tokens therefore increase strictly
// from one session's turn to the next.
//
// Tokens also increase in a fleet mixed with etcd's own library. Its users take the revision from the
// header of their acquisition. The header of that library's elections has the revision of the
// key's creation. In an election that is shared with it the fence is [Lock.CreateRevision].
// Goroutines of one session that hand over in memory share a token. Readers that hold together may
// share one, which is between the tokens of the writers before and after them. [Lock.Guard] fences
// writes to etcd itself.
//
// Nothing left behind. After any failure (a cancelled wait, a lost answer to an entry, an Unlock
// without a network) the session deletes its own keys in the background, guarded by their
// revision. It continues until etcd has confirmed that the keys are gone, or until the lease is
// dead and its keys with it.
//
// A reason for each end. The context of a hold is cancelled with a cause that matches
// [ErrReleased], [ErrSessionClosed], or [ErrLost] and one of [ErrExpired], [ErrRevoked],
// [ErrRolledBack], [ErrEvicted], [ErrOrphaned], [ErrClientClosed].
//
// Order. Waiters are served first come, first served: sessions by the revision at which a key was
// created, goroutines of one session by the order of their calls. A session that has its turn hands
// the lock over among its goroutines, in memory, for a time slice ([WithTimeSlice]). After the
// slice it enters the queue again, behind all others. A waiter of another session at the head of
// the queue therefore waits for a slice and one critical section.
//
// A session outlives its lease. See the states below.
//
// # Several locks at once, and one lock several times
//
// A [MultiMutex] enters the queues of several names in one transaction, at one revision. Of two
// sets that have names in common, one is behind the other under all of these names. No order in
// which names are written causes a deadlock. A MultiMutex never uses a key that its session has
// already, because that key has a place of its own in its queue.
//
// Go does not tell which goroutine calls. The context of a hold therefore carries the hold, and a
// call under this context that asks for the same name fails with [ErrDeadlock], because it would
// wait for its own caller. [WithReentry] admits such a call as another hold of the same turn, and
// the last release of the turn gives the lock away. It is off by default because programs hand the
// context of a hold to their workers, and two workers that lock the same name must not both hold
// it. Without this context a goroutine waits for itself like for any other.
//
// The entry of a waiter lists what the context of its call carries, and the list is kept true while
// the call waits. [Session.Deadlocks] and [WithDeadlockDetection] find cycles of waits in these
// lists. Of the waiters in a cycle only the last one to enter its queue gets an error.
//
// # What is not guaranteed
//
// A paused process is not prevented from acting after its deadline. If it is stopped,
// swapped out or collecting garbage between a look at its hold and its next action, no lock can
// help. Only the resource can help, by refusing a token that is smaller than the largest it has
// seen, or by a transaction under the guard. Work that must not be done twice needs one of the two.
//
// A deletion in etcd is not detected in advance. If an administrator deletes the holder's key or
// revokes its lease, the next waiter is admitted at that revision. The old holder learns of it as
// fast as a watch reports it, usually at once and at most a second later. The same happens if etcd
// revokes a live lease. A raft leader that hangs for longer than 2/3 of the TTL can do so when it
// continues, see docs/operating.md. If etcd fails to report to a waiter that its own key was
// deleted, or if the member that it reads from is behind, the waiter may be granted and finds out
// within a minute. The token and the guard remain correct throughout.
//
// Two processes on one lease do not exclude each other. See [WithLease].
//
// The deadline proves nothing behind "etcd grpc-proxy". The proxy renews leases by itself and
// answers a renewal with the answer to one of its own, which may have been sent earlier.
//
// Two clocks whose rates differ by more than margin/TTL can break exclusion. The times of two clocks
// are never compared.
//
// A restore of etcd from a backup without the present locks breaks exclusion for a time. The first
// holder after the restore can overlap with an earlier holder, until the session of the earlier
// holder has heard from etcd. Then everything from before the restore is lost, with
// [ErrRolledBack]. Fencing tokens may begin again below the earlier ones. docs/operating.md has how
// to restore.
//
// # States of a session
//
//	              renewal fails or is overdue
//	┌───────────┐ ───────────────────────────▶ ┌───────────┐
//	│ Connected │                              │ Suspended │
//	└───────────┘ ◀─────────────────────────── └───────────┘
//	   ▲     │              answered              │
//	   │     │ lease revoked,                     │ validUntil is reached,
//	   │     │ validUntil is reached              │ lease revoked
//	   │     └────────────▶ ┌──────┐ ◀────────────┘
//	   └─────────────────── │ Lost │
//	      new lease granted └──────┘
//
//	any of them ── Close, Orphan, client closed ──▶ Closed
//
// A session is in one of four states:
//   - StateConnected: etcd answers the renewals, which are sent every third of the TTL.
//   - StateSuspended: holds continue until their deadline.
//   - StateLost: all holds and waits under the lease are lost. The holds were notified, and each
//     waiting call returns [ErrLost]. With a jittered backoff the session asks for a new lease, and
//     calls to Lock and Campaign wait for it. No hold is ever moved to the new lease.
//   - StateClosed: the session has ended for good.
//
// # Permissions in etcd
//
// With authentication on, a user needs to read and write the range from the name with a slash to
// the name with a zero ("orders/42/" to "orders/420"), as etcdctl's --prefix grants it. Renewing a
// lease needs permission on every key under it, so use one session for one identity. A [Semaphore],
// [Session.Ask], [Lock.Asked] and [Term.Transfer] have keys beside the queue, under the name and a
// zero byte. They need the range from the name itself on ("orders/42" to "orders/420"). The prefix
// of a group of names ("orders/") includes all of these ranges. docs/security.md in the repository
// has the commands.
//
// # On the wire
//
// The keys are those of go.etcd.io/etcd/client/v3/concurrency, of "etcdctl lock" and "etcdctl
// elect", and of etcd's v3lock and v3election services. A key is the name, a slash and the lease in
// hexadecimal, and keys are ordered by CreateRevision. Processes on any of these and on this
// package exclude each other. The value of a lock is a small JSON object that names the holder (see
// [QueueEntry]). The value of an election is the candidate's proposal.
//
// The fields of the value decide for the shared kinds. A value that is not understood, or that does
// not say "since" when, wants the lock exclusively.
//
//   - "mode" is absent for an exclusive entry, and "shared" for a reader. It is "upgrading" for a
//     reader that becomes a writer or has become one. Its "bound" is the revision from which on
//     entries wait for it, or its own revision without this field. It is "counted" for "permits" of
//     "limit", with "ordered" if the limit was set by [Semaphore.SetLimit], which takes precedence
//     over the limit that a process was given.
//   - "holds" and "all" are for [Session.Deadlocks]. A key or name in them that is not UTF-8 is
//     written as a zero byte and its bytes in hexadecimal.
//
// An entry that can hold beside others of its session has a further key, with a point and a number
// after the lease. Under the name and a zero byte, beside a queue, are the limit that was set
// ("limit"), requests to release ("ask/") and the candidate that a [Term.Transfer] has named
// ("next/"). The etcdlock command also writes there since when it has waited and held ("who/").
//
// # Requests
//
//   - Acquiring a free lock takes one request, as do Unlock, Release, Resign, and a TryLock, which
//     writes nothing if the name is taken.
//   - Waiting takes two requests and a watch, and one more if the session found the queue empty
//     less than a second ago.
//   - The handover to a waiter takes none while few wait, and one read in a long queue.
//   - The handover between goroutines of one session takes none, and neither does locking again
//     what [WithRetention] has kept.
//   - Reading beside readers of the same session takes none for a time slice, and then one read.
//   - Upgrade takes a write (two if a writer waits) and what a wait takes. Downgrade takes one
//     write.
package etcdlock
