package etcdlock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// LockedError is the error of a refused TryLock, and a part of the error of a wait that passed its
// deadline in the queue. It names the entry that was in the way, as far as the requests of the call
// have shown it. Only a wait in a long queue makes a further request, 50 ms before its deadline. It
// matches [ErrLocked].
type LockedError struct {
	// Holder is the entry that was in the way. It is a holder, or if its Holding is false an entry
	// that is ahead in the queue.
	Holder QueueEntry
	// Known is true if all of Holder was read. Otherwise its Key and its CreateRevision may be
	// known, or nothing. This happens if a TryLock finds more than a few sessions in the queue, or
	// in the first second of a wait that uses the watch of an earlier one. It also happens in a long
	// queue, in the first waits of a session and in those of less than 100 ms.
	Known bool

	own     bool // a goroutine of the same session was in the way
	carried bool // the hold of the call's own context was in the way
}

// Error names the holder.
func (e *LockedError) Error() string {
	text := ErrLocked.Error()
	h := &e.Holder
	switch {
	case e.carried:
		return "locked by the caller itself"
	case e.own:
		text += ", by another goroutine of this session"
		if !h.Holding {
			return text + ", which waits"
		}
		return text + fmt.Sprintf(" (key %s)", wire.Quote(h.Key))
	case !e.Known && h.Key == "":
		return text
	case e.Known && h.stray():
		return text + fmt.Sprintf(": the key %s has no lease, so it blocks the lock until it is deleted: see etcdlock doctor", wire.Quote(h.Key))
	}
	who := h.describe()
	if h.Holding {
		return text + ": " + who
	}
	return text + ": " + who + ", which is ahead in the queue"
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// newLockedError is the error of a call that the lock manager has refused for an entry.
func newLockedError(l *local.LockedError) *LockedError {
	kv, holds := l.By.KV, l.By.Holds
	e := &LockedError{Known: kv != nil && l.By.Whole, own: l.Own}
	switch {
	case e.Known:
		e.Holder = newQueueEntry(kv, holds)
	case kv != nil:
		e.Holder = QueueEntry{Key: string(kv.Key), CreateRevision: kv.CreateRevision, Holding: holds}
	}
	return e
}

// LimitError is the error of a request for permits that finds an entry in the queue which was
// written with another limit. It matches [ErrLimitMismatch].
//
// To change the limit of a fleet while it runs:
//   - Call [Semaphore.SetLimit] with the smaller of the two limits, which then holds for all.
//   - Start the processes with the new limit, and stop the others.
//   - Call SetLimit with 0 once all processes have the new limit.
type LimitError struct {
	Ours   int // the limit that this process was configured with
	Theirs int // the limit of the entry that was found
}

// Error says what to do.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%v: the limit is %d for this process, and %d for an entry in the queue: "+
		"give all processes one limit; in a rolling deploy use SetLimit", ErrLimitMismatch, e.Ours, e.Theirs)
}

// Is reports whether target is ErrLimitMismatch.
func (e *LimitError) Is(target error) bool { return target == ErrLimitMismatch }

// DeadlockError is the error of a call that would wait for a caller that waits for it. It matches
// [ErrDeadlock].
type DeadlockError struct {
	// Cycle is the cycle of waits that was found in etcd, see [WithDeadlockDetection]. It has one
	// edge if the call would wait for a hold that its own context carries. The Waiter of this edge
	// is the call, which has no key because it did not enter the queue, and For is the hold's entry.
	Cycle Deadlock

	hint string // what to do, if the context carries the hold
}

// Error names the cycle.
func (e *DeadlockError) Error() string {
	text := ErrDeadlock.Error() + ": " + e.Cycle.String()
	if e.hint != "" {
		text += ": " + e.hint
	}
	return text
}

// Is reports whether target is ErrDeadlock.
func (e *DeadlockError) Is(target error) bool { return target == ErrDeadlock }

// Deadlock is a cycle of waits. The waiter of each edge waits for an entry of the waiter of the
// next edge, and the waiter of the last edge for an entry of the first.
type Deadlock []DeadlockEdge

// DeadlockEdge is one wait of a [Deadlock].
type DeadlockEdge struct {
	Waiter QueueEntry // the waiting entry; its Holds are the keys that its owner holds meanwhile
	For    QueueEntry // the entry that keeps it out: a key that the next waiter holds, or waits with
}

// String returns the cycle in one line, waiter by waiter.
func (d Deadlock) String() string {
	var b strings.Builder
	for i, w := range d {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, pid %d) ", w.Waiter.Owner, w.Waiter.Host, w.Waiter.PID)
		if w.Waiter.Key == "" {
			fmt.Fprintf(&b, "would wait for %s, which the context of its call holds", wire.Quote(w.For.Key))
			continue
		}
		fmt.Fprintf(&b, "waits with %s for %s", wire.Quote(w.Waiter.Key), wire.Quote(w.For.Key))
	}
	return b.String()
}

// newDeadlock is a cycle that the lock manager has found.
func newDeadlock(c deadlock.Cycle) Deadlock {
	d := make(Deadlock, 0, len(c))
	for _, w := range c {
		d = append(d, DeadlockEdge{Waiter: contenderEntry(w.Waiter), For: contenderEntry(w.For)})
	}
	return d
}

// refusal is the error of the API for an error of the lock manager.
func refusal(err error) error {
	var (
		carried *local.CarriedError
		cycle   *lockmgr.CycleError
		locked  *local.LockedError
		waited  *lockmgr.WaitError
		taken   *queue.TakenError
		limit   *admission.LimitError
	)
	switch {
	case errors.As(err, &waited):
		return fmt.Errorf("%w: %w", waited.Ended, newLockedError(waited.Locked))
	case errors.As(err, &locked):
		return newLockedError(locked)
	case errors.As(err, &taken):
		return newLockedError(&local.LockedError{By: taken.Obstacle})
	case errors.As(err, &carried):
		return carriedError(carried)
	case errors.As(err, &cycle):
		return &DeadlockError{Cycle: newDeadlock(cycle.Cycle)}
	case errors.As(err, &limit):
		return &LimitError{Ours: limit.Ours, Theirs: limit.Theirs}
	case errors.Is(err, admission.ErrTooMuch):
		return fmt.Errorf("%w: %w", ErrInvalidPermits, err)
	default:
		return err
	}
}

// carriedError is the error of a call that would wait for a hold which its own context carries.
func carriedError(e *local.CarriedError) error {
	var waiter QueueEntry
	switch r := e.Call; {
	case r == nil:
		waiter = newQueueEntry(e.Upgrades, true)
		waiter.Key, waiter.Mode = "", ModeUpgrading
	case r.Candidate:
		waiter = QueueEntry{Owner: r.Owner, Mode: ModeCandidate}
	default:
		waiter = QueueEntry{Owner: r.Owner, Mode: modes[r.Mode], Permits: r.Permits}
	}
	waiter.Host, waiter.PID, waiter.Holds = hostname(), pid(), e.Holds
	deadlock := &DeadlockError{Cycle: Deadlock{{Waiter: waiter, For: newQueueEntry(e.For, true)}}, hint: e.Hint}
	if e.Call == nil || !e.Call.Try {
		return deadlock
	}
	return fmt.Errorf("%w: %w", &LockedError{Holder: deadlock.Cycle[0].For, Known: true, carried: true}, deadlock)
}
