// Package etcdlock has distributed locks and leader election on etcd.
//
//	session, err := etcdlock.NewSession(ctx, client)          // one for a process
//	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(ctx)
//	// work under lock.Context(), send lock.Token() along with what it writes
//	err = lock.Unlock(ctx)
//
// A [Session] wraps a lease and keeps it alive. A [Mutex], an [RWMutex], a [Semaphore] and an
// [Election] put keys under it, one for each contender, in a queue ordered by etcd's
// revisions. A [Lock], a [WriteLock], a [ReadLock], a [Permit] and a [Term] are one
// acquisition each; a function that takes any of them takes a [Held].
//
// # One queue, many rules
//
// All kinds are the same queue, and so exclude each other under one name. What differs is
// when an entry may go in:
//
//	Mutex, Election, writer    no older entry is left
//	reader                     all older entries are readers'
//	n permits of a limit       older entries want permits only, and with these n they are
//	                           no more than the limit, whether they hold or wait
//	MultiMutex                 as Mutex, in all queues, entered at one revision
//
// Each rule looks at older entries alone: who comes later changes nothing. So who waits is
// passed by nobody younger, a writer by no reader and a large request by no small one. The
// one exception is [ReadLock.Upgrade]: an entry that is marked as upgrading is waited for by
// all who come after its mark, and by all behind the first writer in line, and waits for the
// readers in front of these alone; of two marks the older one stands.
//
// # Guarantees
//
// Exclusion by deadline. A hold is over here before anybody else can have it:
//
//	validUntil = sentAt(last answered renewal) + grantedTTL - margin
//
// sentAt is when the request that was answered was sent. etcd counts the TTL from
// when it received that request, which was later; so the keys stand in etcd at least
// until sentAt + grantedTTL, and only then can the next one in line be granted. It
// does not matter how long the answer took, nor whether etcd can be reached at all:
// at validUntil a timer of the lease's own cancels the context of every hold. The
// clock goes on while the machine sleeps. The margin ([WithMargin]) covers clocks
// that run at different rates, a tenth of the TTL by default where computers' clocks
// differ by less than a thousandth, and leaves the work time to stop.
//
// Grant by proof. Lock and its like succeed only on evidence, at one revision of
// etcd, that no older entry is in the way and that the own key is there: from the
// transaction that wrote it, from one read, or from one watch on the whole queue
// which has seen the older ones go and the own key stay. (Two watches prove
// nothing, as one may lag behind the other.) That no older entry is left stays
// true once it is, since new ones get higher revisions, so that any member may
// say it; the own key can go, but not before the deadline unless somebody deletes it
// (see below).
//
// Fencing. [Held.Token] is the revision of that evidence: the revision at which the
// own key was created if nobody was there, otherwise one at which nobody older was
// left. Such a revision lies before the deletion of the holder's key, as the key stood
// at it; and the evidence of the next holder lies at that deletion or after it. So
// tokens grow strictly from one session's turn to the next, in a fleet mixed with
// etcd's own library too, whose users take the revision from the header of their
// acquisition. (That of its elections is of the key's creation; in one that is shared
// with them the fence is [Lock.CreateRevision].) Goroutines of one session that hand
// over in memory share a token. Readers who hold together may share one; it lies between
// those of the writers before and after them. [Lock.Guard] fences writes to etcd itself.
//
// Nothing left behind. Whatever fails (a cancelled wait, an entry whose answer was
// lost, an Unlock without a network), the session deletes its own keys in the
// background, guarded by their revision, until etcd has confirmed that they are gone
// or the lease is dead, which takes its keys with it.
//
// Told, with the reason. The context of a hold is cancelled with a cause that
// matches [ErrReleased], [ErrSessionClosed], or [ErrLost] and one of [ErrExpired],
// [ErrRevoked], [ErrRolledBack], [ErrEvicted], [ErrOrphaned], [ErrClientClosed].
//
// Order. First come, first served: between sessions by the revision at which a key
// was created, between goroutines of one session by the order of their calls.
// A session that has its turn hands the lock over among its goroutines, in memory, for
// a time slice ([WithTimeSlice]); then it lines up again behind all others. So a
// stranger at the head of the line waits for a slice and one critical section.
//
// A session outlives its lease. See the states below.
//
// # Several locks at once, and one lock several times
//
// A [MultiMutex] enters the queues of several names in one transaction, so at one revision: of
// two sets that have names in common, one is behind the other under all of these, and no
// order in which names are written brings a deadlock about. It never builds on a key that its
// session has already, as that key has a place of its own in its queue.
//
// Go does not tell which goroutine calls. So the context of a hold carries the hold, and a call
// under it that asks for the same name fails with [ErrDeadlock], as it would wait for its own
// caller. [WithReentry] lets such a call in as another hold of the same turn, and the last release
// of the turn gives the lock away. It is off by default because the context of a hold is what
// programs hand to their workers, and two workers that lock the same name must not both hold it.
// Without this context a goroutine waits for itself like for any other.
//
// What a caller holds by his context stands in the entry with which he waits, and is kept
// true while that caller does. From this [Session.Deadlocks] and [WithDeadlockDetection] know who waits for
// whom; of those in a cycle the last one to come is told, and no other.
//
// # What is not guaranteed
//
// That a process which stands still does not act after its deadline. If it is
// stopped, swapped out or collecting garbage between a look at its hold and what it
// does next, no lock can help: only the resource can, by refusing a token that is
// smaller than the largest it has seen, or by a transaction under the guard. Work
// that must not be done twice needs one of the two.
//
// That an administrator's hand is noticed before it acts. Whoever deletes a holder's
// key lets the next one in at that revision; the holder hears of it as fast as a
// watch tells it: at once as a rule, within a second at the worst. A lease that
// is revoked is the same. Should etcd fail to tell a waiter that his own key was
// deleted, or the member that he reads from be behind, he may be granted all the same,
// and finds out within a minute. The token and the guard are right all the time.
//
// That two processes on one lease exclude each other; see [WithLease].
//
// Anything by the deadline behind "etcd grpc-proxy": it renews leases by itself and
// answers a renewal with the answer to one of its own, which may have been sent before.
//
// That a clock which runs at a wrong rate by more than the margin's share of the TTL
// does no harm. No comparison between the clocks of two machines is ever made.
//
// A restore of etcd from a backup without the locks of now. The first holder after it can
// overlap with a holder of before, until that one's session has heard from etcd: then all of
// before is lost, with [ErrRolledBack]. Fencing tokens may begin again below those of before.
// docs/operating.md has how to restore.
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
// StateConnected: etcd answers the renewals, sent every third of the TTL. StateSuspended: what
// is held is still held, until its deadline. StateLost: everything held under the lease
// is lost, and was told so; so are the places in line, and a call that was waiting
// returns [ErrLost]. Meanwhile, and with a jittered backoff, the session asks for a
// new lease; calls to Lock and Campaign wait for it. Nothing held is ever moved to
// the new lease. StateClosed: for good.
//
// # What a user may need to do in etcd
//
// With authentication on, a user needs to read and write the range from the name with a
// slash to the name with a zero ("orders/42/" to "orders/420"), as etcdctl's --prefix
// grants it. Renewing a lease needs permission on every key under it: one session for
// one identity. A [Semaphore], [Session.Ask], [Lock.Asked] and [Term.Transfer] have keys beside the
// queue, under the name and a zero byte: they need the range from the name itself on ("orders/42" to "orders/420"). The
// prefix of a group of names ("orders/") has all of it. docs/security.md in the
// repository has the commands.
//
// # On the wire
//
// The keys are those of go.etcd.io/etcd/client/v3/concurrency, of "etcdctl lock" and
// "etcdctl elect" and of etcd's v3lock and v3election services: the name, a slash and
// the lease in hexadecimal, ordered by CreateRevision. Processes on any of these and
// on this package exclude each other. A lock's value is a small JSON object that says
// who holds (see [QueueEntry]); an election's value is the candidate's proposal.
//
// By the value's fields the shared kinds decide: "mode" is absent for who wants all,
// "shared" for a reader, "upgrading" for one who becomes a writer or has become one (with
// "bound", the revision from which on entries wait for it; its own without), and "counted"
// for "permits" of "limit" (with "ordered" if it was set by [Semaphore.SetLimit], which stands
// above what a process was given). A value that is not understood, or does not say "since"
// when, wants all. "holds" and "all" are for [Session.Deadlocks]; a key or name in them that is no UTF-8
// is written as a zero byte and its bytes in hexadecimal. Who can hold beside others of his
// session has further keys, with a point and a number behind the lease. Beside a queue, under
// the name and a zero byte, stand the limit that was set ("limit"), requests to let go
// ("ask/") and the candidate that a [Term.Transfer] has named ("next/"); the etcdlock command
// puts there since when it is in line and holds ("who/").
//
// To acquire what is free takes one request, as do Unlock, Release, Resign, and a
// TryLock, which writes nothing if the name is taken. To read beside readers of the own
// session takes none for a time slice, and then one that reads; Upgrade takes a write (two if
// a writer waits) and what a wait does, Downgrade one write. To be in line takes two and a
// watch, and one more if the session has found nobody there less than a second ago; the handover none while few wait, and one read in a crowd. Between goroutines
// of one session it takes none, nor does it to lock again what was kept
// ([WithRetention]).
package etcdlock
