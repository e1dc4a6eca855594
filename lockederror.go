package etcdlock

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// LockedError is the error of a refused TryLock, and a part of the error of a wait whose
// deadline passed in the queue. It names the entry that was in the way, as far as the requests of
// the call have shown it. No further request is made to find out. It matches [ErrLocked].
type LockedError struct {
	// Holder is the entry that was in the way. It is a holder, or if its Holding is false an entry
	// that is ahead in the queue.
	Holder QueueEntry
	// Known is true if all of Holder was read. Otherwise its Key and its CreateRevision may be
	// known, or nothing. This happens if a TryLock finds more than a few sessions in the queue, or
	// in the first second of a wait that uses the watch of an earlier one.
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
		return text + fmt.Sprintf(": the key %s has no lease, and stays until it is deleted by hand", wire.Quote(h.Key))
	}
	who := h.describe()
	if h.Holding {
		return text + ": " + who
	}
	return text + ": " + who + ", which is ahead in line"
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// lockedBy returns the error of a call that found an entry of another session.
func lockedBy(o queue.Obstacle) *LockedError {
	e := &LockedError{Known: o.KV != nil && o.Whole}
	switch {
	case e.Known:
		e.Holder = newQueueEntry(o.KV, o.Holds)
	case o.KV != nil:
		e.Holder = QueueEntry{Key: string(o.KV.Key), CreateRevision: o.KV.CreateRevision, Holding: o.Holds}
	}
	return e
}

// waitError returns the error of a wait after the end of its context. After a deadline it names the
// entry that was in the way. locked is nil if that entry is not known.
func waitError(ctx context.Context, locked *LockedError) error {
	ended := lockerr.OfContext(ctx)
	if locked != nil && errors.Is(ended, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ended, locked)
	}
	return ended
}

// lockedHere returns the error of a call that found another goroutine of its session: the holder of
// kv, or a waiter if kv is nil.
func lockedHere(kv *mvccpb.KeyValue) *LockedError {
	e := &LockedError{own: true, Known: kv != nil}
	if e.Known {
		e.Holder = newQueueEntry(kv, true)
	}
	return e
}

// inTheWay returns the error that names the entry ahead of a waiter of the local queue, nil if none
// is known.
// Called with manager.mu held.
func (l *localQueue) inTheWay() *LockedError {
	switch {
	case l.held():
		return lockedHere(l.tenure.entry.Parts()[0].KV())
	case l.waiting != nil:
		return lockedBy(l.waiting.Obstacle())
	default:
		return nil
	}
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
	return fmt.Sprintf("%v: the limit is %d for this process, and %d for an entry that is in the queue: "+
		"give all processes the same one; while they are being replaced, set one for all with SetLimit", ErrLimitMismatch, e.Ours, e.Theirs)
}

// Is reports whether target is ErrLimitMismatch.
func (e *LimitError) Is(target error) bool { return target == ErrLimitMismatch }

// DeadlockError is the error of a call that would wait for a caller that waits for it. It matches
// [ErrDeadlock].
type DeadlockError struct {
	// Cycle is the cycle of waits that was found in etcd, see [WithDeadlockDetection]. It has one
	// edge if the call would wait for a hold that its own context carries. The Waiter of this edge
	// is the call, which has no key because it did not line up, and For is the hold's entry.
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

// refusal returns the error of a caller that was not admitted.
func refusal(err error) error {
	var (
		limit *admission.LimitError
		taken *queue.TakenError
	)
	switch {
	case errors.As(err, &taken):
		return lockedBy(taken.Obstacle)
	case errors.As(err, &limit):
		return &LimitError{Ours: limit.Ours, Theirs: limit.Theirs}
	case errors.Is(err, admission.ErrTooMuch):
		return fmt.Errorf("%w: %w", ErrInvalidPermits, err)
	default:
		return err
	}
}
