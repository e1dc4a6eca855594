package etcdlock

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Errors of this package. Every returned error wraps one of these, or the error of etcd's client,
// or the error of the context. Match them with [errors.Is]. The text around them names the lock or
// election and what to do.
var (
	// ErrLocked is returned by TryLock when another holder or waiter, of this session or of another
	// one, is ahead. The error of a wait that passed its deadline in the queue matches it too. Both
	// are a [LockedError], which names the holder.
	ErrLocked = lockerr.ErrLocked

	// ErrLost is matched by the error of every hold, and of every wait in the queue, that ended
	// without an action of its owner. The same error also matches one of ErrExpired, ErrRevoked,
	// ErrRolledBack, ErrEvicted, ErrHeldTooLong, ErrOrphaned or ErrClientClosed, which gives the
	// reason.
	ErrLost = lockerr.ErrLost

	// ErrExpired is the reason of a loss when the lease was not renewed in time. Either etcd was
	// unreachable, or this process or machine was paused, or an [Election.Run] stopped the
	// renewals on purpose, see [WithStopTimeout] and [WithProgress]. The text of the error names
	// the last case. The error also matches [ErrNoProgress] when WithProgress stopped the renewals.
	ErrExpired = lockerr.ErrExpired

	// ErrRevoked is the reason of a loss when etcd no longer knew the lease before its time was
	// over, because the lease was revoked.
	ErrRevoked = lockerr.ErrRevoked

	// ErrRolledBack is the reason of a loss when etcd continues with other data than before,
	// because it was restored from a backup or started with empty data. Every hold and every wait
	// from before is lost, even if its key exists in the present data. The session soon obtains a
	// new lease, and revokes the old one. Fencing tokens may be smaller than before: see
	// docs/operating.md.
	ErrRolledBack = lockerr.ErrRolledBack

	// ErrEvicted is the reason of a loss when another client deleted the key while the lease lived
	// on, as an administrator does to admit the next waiter. It is also the reason when the key is
	// gone and etcd does not answer within half a second whether the lease was revoked. The text of
	// the error names the last case, and the reason that "etcdlock evict --reason" gave.
	ErrEvicted = lockerr.ErrEvicted

	// ErrHeldTooLong is the reason of the end of a hold that has lasted for longer than
	// [WithMaxHold] allows. The lock is released when the caller releases it, or when the margin of
	// the session is over.
	ErrHeldTooLong = lockerr.ErrHeldTooLong

	// ErrOrphaned is the reason of a loss when [Session.Orphan] left the lease to a successor.
	ErrOrphaned = lockerr.ErrOrphaned

	// ErrClientClosed is the reason of a loss, and of the end of a session, when the etcd client
	// was closed before the session. Such an error of a session also matches ErrSessionClosed.
	ErrClientClosed = lockerr.ErrClientClosed

	// ErrReleased is the error of a hold that its owner has released. A second Unlock or Resign
	// returns it.
	ErrReleased = lockerr.ErrReleased

	// ErrUnconfirmed is matched by the error of an Unlock, Release, Resign or Transfer that etcd
	// has not confirmed. The hold is over in this process. It lasted until the release, and no
	// other session could hold before. No deadline protects after the release, because another
	// session may hold as soon as the key is gone. The session deletes the key in the background
	// until etcd has confirmed the deletion, or the lease has ended. Waiters of other sessions wait
	// until then, at most [Session.LeaseTTL] after the last renewal that etcd has answered. The
	// caller has nothing left to do.
	//
	// The same error also matches the cause:
	//   - the error of the context
	//   - an error with which etcd refuses the deletion, for example for lack of permission
	//   - [ErrLost] or [ErrSessionClosed] if the lease ended after the release, so that the key
	//     goes with it
	//
	// ErrLost without ErrUnconfirmed means that the hold was lost before the release.
	ErrUnconfirmed = lockerr.ErrUnconfirmed

	// ErrSessionClosed is returned by every call that needs a session, after Close. It is also the
	// reason of the end of a hold that Close released.
	ErrSessionClosed = lockerr.ErrSessionClosed

	// ErrUnhealthy is the cause with which the context of the function of [Election.Run] ends when
	// the check of [WithHealthCheck] has failed.
	ErrUnhealthy = lockerr.ErrUnhealthy

	// ErrNoProgress is the cause with which the context of the function of [Election.Run] ends when
	// the function has not called [Term.Progress] for the time set by [WithProgress].
	ErrNoProgress = lockerr.ErrNoProgress

	// ErrPreempted is the cause with which the context of the function of [Election.Run] ends
	// when a candidate of a higher priority preempts the leader, see [WithTakeover].
	ErrPreempted = lockerr.ErrPreempted

	// ErrResignRequested is the cause with which the context of the function of [Election.Run] ends
	// when the leader was asked to resign, see [WithResignOnRequest].
	ErrResignRequested = lockerr.ErrResignRequested

	// ErrNoLeader is returned by [Election.Leader], [Election.AskToResign] and
	// [Election.AskToTransfer] when there is no leader.
	ErrNoLeader = lockerr.ErrNoLeader

	// ErrNoCandidate is returned by [Term.Transfer] and [Election.AskToTransfer] when no candidate
	// with that value waits, and by [Election.AskToResign] when no candidate waits at all.
	ErrNoCandidate = lockerr.ErrNoCandidate

	// ErrNotHonoured is returned by [Election.AskToResign] and [Election.AskToTransfer] when the
	// leader does not announce that it honours such requests. Its Run has no [WithResignOnRequest],
	// or it campaigned without Run, or by another library.
	ErrNotHonoured = lockerr.ErrNotHonoured

	// ErrInvalidArgument is matched by the error of a call that was given an argument which can
	// never work. ErrInvalidName, ErrInvalidPermits, ErrTooManyNames and ErrNilClient match it. So
	// do the errors for a nil Session, a [Striped] of less than one mutex, and the zero value of a
	// handle or of a type that [NewMutex] and the other constructors return.
	ErrInvalidArgument = lockerr.ErrInvalidArgument

	// ErrInvalidOption is matched by the error of NewSession, Campaign and Run for an option that
	// cannot work, such as a margin as long as the TTL.
	ErrInvalidOption = lockerr.ErrInvalidOption

	// ErrInvalidName is returned for a name that a lock or an election cannot have. [NewMutex] has
	// the rule, and [WithForeignNames] allows the names of other programs that break it. It matches
	// ErrInvalidArgument.
	ErrInvalidName = lockerr.ErrInvalidName

	// ErrNestedName is returned when one name lies inside another that is in use, as "a/b" lies
	// inside "a". The two would wait for each other's keys.
	ErrNestedName = lockerr.ErrNestedName

	// ErrReentryLimit is returned by a call with [WithReentry] under the context of a hold, if the
	// turn of this hold has as many holds as that option allows. [WriteLock.Downgrade] returns it
	// while the turn has another hold.
	ErrReentryLimit = lockerr.ErrReentryLimit

	// ErrDeadlock is returned by a call that would wait for its own caller. The call would wait for
	// a hold that its context carries or, with [WithDeadlockDetection], for another session that
	// waits for the caller. The error is a [DeadlockError], which has the cycle.
	ErrDeadlock = lockerr.ErrDeadlock

	// ErrUpgradeConflict is returned by [ReadLock.Upgrade] when another reader is already upgrading.
	// Each of the two would wait for the other to stop reading. Release the read lock, and lock for
	// writing.
	ErrUpgradeConflict = lockerr.ErrUpgradeConflict

	// ErrLimitMismatch is returned by [Semaphore.Acquire] when an entry in the queue was written
	// with another limit. The error is a [LimitError], which has both limits and says what to do.
	ErrLimitMismatch = lockerr.ErrLimitMismatch

	// ErrInvalidPermits is returned for a number of permits, or a limit, that is not possible: less
	// than one, or more than the limit. It matches ErrInvalidArgument.
	ErrInvalidPermits = lockerr.ErrInvalidPermits

	// ErrTooManyNames is returned by a [MultiMutex] for more names than etcd takes in one
	// transaction. It matches ErrInvalidArgument.
	ErrTooManyNames = lockerr.ErrTooManyNames

	// ErrInvalidTTL is returned by NewSession for a TTL that etcd cannot keep. Such a TTL is not
	// positive, not in whole seconds, or below the server's minimum, to which the server would
	// silently raise it. It matches ErrInvalidOption.
	ErrInvalidTTL = lockerr.ErrInvalidTTL

	// ErrNilClient is returned by NewSession without an etcd client. It matches ErrInvalidArgument.
	ErrNilClient = lockerr.ErrNilClient

	// ErrLeaseNotFound is returned by NewSession with [WithLease] when etcd does
	// not know the lease. The lease expired or was revoked, and its keys went with it.
	ErrLeaseNotFound = lockerr.ErrLeaseNotFound

	// ErrLeaseFileInUse is returned by NewSession with [WithLeaseFile] when another
	// process had the file for as long as the context allowed to wait.
	ErrLeaseFileInUse = lockerr.ErrLeaseFileInUse
)

// Errors of a Session that is nil or not made by NewSession, and of a handle that no call has
// returned.
var (
	errNotASession = fmt.Errorf("%w: the session is nil, or was not created by NewSession (%w)", ErrInvalidArgument, ErrSessionClosed)
	errNoHold      = fmt.Errorf("%w: the zero value of a handle holds nothing", ErrInvalidArgument)
)

// opError prefixes err with the operation and the name, once. To a missing permission it
// appends what to grant.
func opError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return fmt.Errorf("etcdlock: %s %s: %w: grant the client's user in etcd readwrite to all keys that begin with %s (read to observe only), "+
			"and for semaphores and release requests also to keys that begin with %s",
			op, wire.Quote(name), err, wire.Quote(wire.Prefix(name)), wire.Quote(wire.Side(name, "")))
	}
	return fmt.Errorf("etcdlock: %s %s: %w", op, wire.Quote(name), err)
}
