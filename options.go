package etcdlock

import (
	"fmt"
	"time"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// MutexOption changes what [NewMutex], [NewRWMutex] and [NewStriped] do by default. Each
// [LockOption] is one.
type MutexOption interface{ applyMutex(*mutexConfig) }

// LockOption changes what each kind of lock does by default. [NewSemaphore] and [NewMultiMutex]
// also take it. They have no use for the other options of a mutex.
type LockOption interface {
	MutexOption
	forEachLock()
}

// SharedOption is an option of a session, for all of its locks, or of one lock.
type SharedOption interface {
	SessionOption
	LockOption
}

// ElectionOption changes what [NewElection] does by default.
type ElectionOption interface{ applyElection(*electionConfig) }

// electionConfig holds the options of NewElection.
type electionConfig struct {
	priority      int
	takeover      bool
	takeoverDelay time.Duration // the takeover delay of a leader
}

func (c *electionConfig) validate() error {
	switch {
	case c.takeoverDelay < 0:
		return fmt.Errorf("%w: WithTakeover: the delay %v is negative", ErrInvalidOption, c.takeoverDelay)
	case c.priority >= wire.PausePriority:
		return fmt.Errorf("%w: WithPriority: the priority %d is that of a pause, or higher", ErrInvalidOption, c.priority)
	}
	return nil
}

type electionOptionFunc func(*electionConfig)

func (f electionOptionFunc) applyElection(c *electionConfig) { f(c) }

// WithOwner names the holder in the lock's value, for [Mutex.Queue] and for operators that look at
// the keys. A session's option is the default of all its locks. The owner is the program's name
// without this option.
func WithOwner(owner string) SharedOption {
	return sharedOption{
		func(c *sessionConfig) { c.owner = owner },
		func(c *mutexConfig) { c.owner = owner },
	}
}

// DefaultTimeSlice is the time slice of a mutex that is made without [WithTimeSlice].
const DefaultTimeSlice = 10 * time.Millisecond

// mutexConfig holds the options of NewMutex and the other constructors of locks.
type mutexConfig struct {
	owner   string
	short   wire.Identity // the value of a key of this owner and process that wants nothing else
	terms   local.Terms
	reentry int
	most    time.Duration // for how long a caller may hold; 0: without a bound
	cycle   *string       // the prefix in which deadlocks are detected; nil: off
}

func newMutexConfig[O MutexOption](s *Session, opts []O) mutexConfig {
	c := mutexConfig{terms: local.Terms{Slice: DefaultTimeSlice}}
	if s != nil {
		c.owner, c.cycle, c.short = s.cfg.owner, s.cfg.cycle, s.cfg.short
	}
	for _, o := range opts {
		o.applyMutex(&c)
	}
	if s == nil || c.owner != s.cfg.owner {
		c.short = wire.Identify(c.owner, hostname(), pid())
	}
	return c
}

type mutexOptionFunc func(*mutexConfig)

func (f mutexOptionFunc) applyMutex(c *mutexConfig) { f(c) }

type lockOptionFunc func(*mutexConfig)

func (f lockOptionFunc) applyMutex(c *mutexConfig) { f(c) }
func (lockOptionFunc) forEachLock()                {}

type sharedOption struct {
	session sessionOptionFunc
	lockOptionFunc
}

func (o sharedOption) applySession(c *sessionConfig) { o.session(c) }

// WithTimeSlice sets for how long, from a grant by etcd, Unlock hands the lock to the next waiting
// goroutine of the same session, in memory and without a request. The first Unlock after the slice
// lets other sessions have their turn. A waiter of another session at the head of the queue
// therefore waits for the slice and one more critical section at most. 0 means strict turns between
// sessions, and every Unlock then goes through etcd. The default is [DefaultTimeSlice].
//
// Goroutines that hand over in memory share the fencing token, because the token fences between
// sessions. Each goroutine has its own context and release.
func WithTimeSlice(slice time.Duration) MutexOption {
	return mutexOptionFunc(func(c *mutexConfig) { c.terms.Slice = slice })
}

// WithRetention makes Unlock keep the key in etcd while no other session wants it, so that this
// session locks again without a request. The key is given up at once when another session enters
// the queue, when it was not used for as long as idle, when renewals of the lease are not answered,
// and when the session ends. The default, 0, is no retention.
//
// Use it if one process locks the same name again and again and others rarely do. The next waiter
// of another session pays for it. It waits for one notification and one deletion, about twice as
// long as for a plain handover, where the lock would have been free. While the key is kept, Unlock
// returns before etcd has confirmed anything, [Mutex.Queue] shows the key, and a TryLock of another
// session finds the lock taken. A TryLock that fails writes nothing, so the key is not given up for
// it. Do not use retention for names that others acquire only by TryLock.
func WithRetention(idle time.Duration) MutexOption {
	return mutexOptionFunc(func(c *mutexConfig) { c.terms.Retention = idle })
}

// WithReentry lets a call under the context of a hold get another hold of the same turn. Without
// this option the call fails with [ErrDeadlock]. A function that locks for itself can then be
// called by a holder.
//
// The call returns at once and without a request. Its hold has a context and a release of its own,
// and the token and key of the first one. The holds can be released in any order, and the last
// release gives the lock away. At most max holds of one turn exist at a time, including the first
// one. Beyond that the call fails with [ErrReentryLimit]. A max below 1 is no re-entry.
//
// The first hold has to cover what the call asks for, else the call fails with [ErrDeadlock] even
// with this option. A write lock covers read locks, permits cover the same number or fewer, and a
// [LockSet] covers each part of its names. A read lock never covers a write lock; see
// [ReadLock.Upgrade].
//
// Re-entry is off by default because programs hand the context of a hold to the goroutines that
// work under it, as golang.org/x/sync/errgroup does. Two of these goroutines that lock the same
// name with WithReentry both hold it at the same time, with one token.
func WithReentry(max int) LockOption {
	return lockOptionFunc(func(c *mutexConfig) { c.reentry = max })
}

// WithMaxHold bounds for how long a caller holds, from its grant. It is for work that may hang, such as a
// job that would otherwise keep all others waiting. The default, 0, is no bound.
//
// After d the context of the hold is cancelled first. Its cause, and the error of [Held.Err], match
// [ErrHeldTooLong] and [ErrLost], and name the lock. The lock itself is still held, so no other process can
// acquire it yet. It is released when the caller releases it. If the caller has not done so within the
// margin of the session ([WithMargin], [WithLockDelay]), it is released without the caller, as after the
// loss of a lease, and the work may then overlap with that of the next holder. The next holder always has a
// larger fencing token. Other processes see an ordinary release.
//
// Unlock returns [ErrHeldTooLong] after d, whether it came in time or not. An Upgrade or a Downgrade does
// not begin the time again. A hold under the context of another hold of the same turn ([WithReentry]) ends
// with that one at the latest. An [Election] has [WithProgress] and [WithStopTimeout] instead.
func WithMaxHold(d time.Duration) LockOption {
	return lockOptionFunc(func(c *mutexConfig) { c.most = d })
}

// WithDeadlockDetection makes a call fail with [ErrDeadlock] if it would otherwise wait without
// end, for a caller that waits for what this caller holds. The context of the call tells what the
// caller holds: call under [Held.Context], or the context of Do, of the holds. Each such wait in
// the queue costs one read of everything under prefix. Choose the prefix so that it includes all
// locks that are acquired together. See [Session.Deadlocks].
//
// In a cycle the last waiter to enter its queue gets the error, if it has the option. Callers of
// one session that hold something else enter the queue with a key each, where other sessions can
// see them, and no longer hand over to each other in memory.
//
// A session's option is the default of all its locks.
func WithDeadlockDetection(prefix string) SharedOption {
	return sharedOption{
		func(c *sessionConfig) { c.cycle = &prefix },
		func(c *mutexConfig) { c.cycle = &prefix },
	}
}

// WithPriority gives a candidate a priority, 0 by default. When the leader goes, the waiting
// candidate with the highest priority leads next, and among equals the oldest. A leader is not
// disturbed by a priority.
//
// A priority costs nothing until it counts. Then each candidate ahead that has a lower one moves to
// the end of the queue, with one transaction, when it reaches the front. In a queue of more than 7
// the candidate at the front also reads the queue once. The priority is part of the candidate's
// key. Candidates of other libraries know nothing of priorities, and lead when they are the oldest.
// The priority is below [math.MaxInt32].
func WithPriority(priority int) ElectionOption {
	return electionOptionFunc(func(c *electionConfig) { c.priority = priority })
}

// WithTakeover lets a candidate preempt a leader of lower priority. The candidate must have waited
// without interruption for after, which keeps an unstable candidate from causing repeated
// failovers. 0 is at once. Both the candidate and the leader need this option, and the leader's
// after applies. A leader is never preempted by a candidate of equal priority.
//
// [Election.Run] ends the context of a preempted leader's function with [ErrPreempted], waits for
// the function to return, resigns, and campaigns again. A leader that called [Election.Campaign]
// waits in [Term.AwaitPreemption], and decides for itself.
//
// An unhealthy candidate ([WithHealthCheck]) does not preempt, because it is not in the queue.
// Neither does a candidate if its lease was not renewed for half of its TTL. A candidate that dies
// later than that costs what the crash of a leader costs. A leader that was named by
// [Term.Transfer] is not preempted, so that an operator can overrule priorities.
func WithTakeover(after time.Duration) ElectionOption {
	return electionOptionFunc(func(c *electionConfig) { c.takeover, c.takeoverDelay = true, after })
}
