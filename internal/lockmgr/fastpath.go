package lockmgr

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/local"
)

// The fast path. A local queue has a worker only while there is something to wait for. A caller
// that finds a local queue without a driver enters by itself, by one request. If this request is
// the grant, the ownership is not watched while it is young, and then by the keeper of the session.
// The last holder deletes the key and leaves the local queue idle again. A free lock needs no other
// goroutine, and no switch to one.

// enterAlone makes an attempt. It returns true if that was the grant, and false if the waiter has an
// error or has to wait.
//
// The request is cut off when the caller cancels. Then it may have taken effect, or may later, and
// the worker finds out and takes it back (traps A4, B2).
func (l line) enterAlone(ctx context.Context, a *local.Attempt) (granted bool) {
	err := l.request(ctx, a)
	switch {
	case err == nil && a.Entry != nil && a.Entry.First():
		if l.GrantAlone(a) {
			return true
		}
	case err != nil && answer.Final(err):
		l.fail(&a.Wanted, a.Lease, a.Of, a.Entry, err)
		l.Refused(a)
		return false
	case err != nil:
		a.Entry, a.Unsure = nil, true
		if ctx.Err() != nil {
			_, _ = l.GiveUp(a.Of) // before the worker would enter for a caller that is leaving
		}
	}
	l.Resume(a)
	return false
}

// request is the one request of an attempt.
func (l line) request(ctx context.Context, a *local.Attempt) (err error) {
	once := l.Single.EnterOnce
	if a.Of.Try {
		once = l.Single.TryEnterOnce
	}
	bounded, pooled := l.cfg.Writer.RequestContext(a.Lease.Context(), ctx)
	defer pooled.Release()
	returned := false
	defer func() {
		if !returned { // the client's code has panicked, or ended this goroutine
			a.Entry, a.Unsure = nil, true
			_, _ = l.GiveUp(a.Of)
			l.Resume(a)
		}
	}()
	a.Entry, err = once(bounded, a.Of.Wants(a.Lease, a.Slot))
	returned = true
	a.Of.Entered(a.Entry)
	return err
}
