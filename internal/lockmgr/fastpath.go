package lockmgr

import (
	"context"
	"errors"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// The fast path. A local queue has a worker only while there is something to wait for that its caller
// cannot wait for. A caller that finds a local queue without a driver enters by itself, by one request.
// If this request is the grant, the ownership is not watched while it is young, and then by the keeper
// of the session. The last holder deletes the key and leaves the local queue idle again. A free lock
// needs no other goroutine, and no switch to one.
//
// In a long queue the caller waits by itself too, for the entry ahead or for a message. It can leave such a wait
// at any time. A worker then goes on with the entry, for the next waiter or to delete it. A worker also goes on
// when a candidate is the first one, as it may have to step behind. A caller that has to be told that it waits
// does not wait by itself: what it calls may end the session, which waits for its drivers.

// enterAlone makes an attempt, and waits if it can. It returns true if the entry is granted, and an error
// if the caller has given up. In any other case the waiter has an error or has to wait.
//
// The request is cut off when the caller cancels. Then it may have taken effect, or may later, and
// the worker finds out and takes it back (traps A4, B2).
func (l line) enterAlone(ctx context.Context, a *local.Attempt) (granted bool, err error) {
	if l.Marks(&a.Of.Call) && !l.mark(ctx, a) {
		if ctx.Err() != nil {
			_, _ = l.GiveUp(a.Of)
		}
		l.Resume(a)
		return false, nil
	}
	err = l.request(ctx, a)
	switch {
	case err == nil && a.Entry != nil && a.Entry.First():
		if l.GrantAlone(a, a.Entry.CreateRevision) {
			return true, nil
		}
	case err == nil && l.waitsAlone(a):
		a.Waited, err = l.waitAlone(ctx, a)
		if err == nil && !a.Of.Candidate && l.GrantAlone(a, a.Waited) {
			return true, nil
		}
		if ctx.Err() != nil {
			if left, locked := l.GiveUp(a.Of); left {
				l.Resume(a)
				return false, waitError(ctx, locked)
			}
		}
	case errors.Is(err, queue.ErrUnmarked):
		l.Refused(a) // the worker enters with an unmarked key
		return false, nil
	case err != nil && answer.Final(err):
		l.fail(&a.Wanted, a.Lease, a.Of, a.Entry, err)
		l.Refused(a)
		return false, nil
	case err != nil:
		a.Entry, a.Unsure = nil, true
		if ctx.Err() != nil {
			_, _ = l.GiveUp(a.Of) // before the worker would enter for a caller that is leaving
		}
	}
	l.Resume(a)
	return false, nil
}

// waitsAlone tells whether the caller of an attempt waits by itself.
func (l line) waitsAlone(a *local.Attempt) bool {
	return a.Entry != nil && !a.Of.Try && a.Of.Waiting == nil && l.Single.Follows(a.Entry)
}

// waitAlone waits until the entry of an attempt is granted. rev is the proof.
func (l line) waitAlone(ctx context.Context, a *local.Attempt) (rev int64, err error) {
	l.Block(a.Entry)
	l.driveUntil(ctx, a, func(wait context.Context) {
		defer l.foresee(ctx)()
		rev, err = l.Single.Await(wait, a.Entry)
	})
	return rev, err
}

// mark gives an attempt a marked key, if there is one and the inbox can be watched soon. It returns false if there
// is nothing to enter for any more.
func (l line) mark(ctx context.Context, a *local.Attempt) (goesOn bool) {
	l.driveUntil(ctx, a, func(wait context.Context) {
		if slot, ok := l.takeMarked(wait, a.Lease); ok {
			l.dropSlot(a.Slot)
			a.Slot = slot
		}
		goesOn = wait.Err() == nil
	})
	return goesOn
}

// request is the one request of an attempt.
func (l line) request(ctx context.Context, a *local.Attempt) (err error) {
	once := l.Single.EnterOnce
	if a.Of.Try {
		once = l.Single.TryEnterOnce
	}
	a.Unsure = true
	l.drive(a, func() {
		bounded, pooled := l.cfg.Writer.RequestContext(a.Lease.Context(), ctx)
		defer pooled.Release()
		a.Entry, err = once(bounded, a.Of.Wants(a.Lease, a.Slot))
	})
	a.Unsure = false
	a.Of.Entered(a.Entry)
	return err
}

// driveUntil is drive for a function that is to end with the caller, with the lease, and when no waiter is left.
func (l line) driveUntil(ctx context.Context, a *local.Attempt, call func(context.Context)) {
	l.drive(a, func() {
		wait, stop := until(&a.Wanted, a.Lease)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		call(wait)
	})
}

// drive calls a function in the goroutine of a caller that drives. If the client's code panics there, or ends
// the goroutine, the waiter gives up, and the worker goes on. The caller's context is client's code, too.
func (l line) drive(a *local.Attempt, call func()) {
	returned := false
	defer func() {
		if !returned {
			_, _ = l.GiveUp(a.Of)
			l.Resume(a)
		}
	}()
	call()
	returned = true
}
