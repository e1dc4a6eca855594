package leaderloop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Term is one leadership.
type Term interface {
	Token() int64
	// Err returns nil while the term stands.
	Err() error
	// Done is closed when the term has ended.
	Done() <-chan struct{}
	// Within returns a context that ends with ctx or with the term, and carries the term.
	Within(ctx context.Context) (context.Context, context.CancelFunc)
	// AwaitPreemption blocks until a challenger is to take over, and returns the challenger's name.
	AwaitPreemption(ctx context.Context) (challenger string, err error)
	// Honour reports each request to resign until ctx or the term ends, or requests cannot be listened
	// to: the candidate that is to lead next, "" for any, and the process that asks.
	Honour(ctx context.Context, tell func(to, by string)) error
	// Progress is what the work of the term reports progress to.
	Progress() *Progress

	// Resign ends the term and blocks until that is confirmed or ctx ends. The error is why the term
	// had ended before, or why the end is not confirmed.
	Resign(ctx context.Context) error
	// ResignTo is Resign for a candidate that is to lead next, if it still waits.
	ResignTo(ctx context.Context, candidate string) error
	// Abandon ends the term and waits for nothing. It does nothing if the term has ended.
	Abandon()

	// TTL is that of the term's lease.
	TTL() time.Duration
	// TimeLeft tells when the term ends unless its lease is renewed again.
	TimeLeft() TimeLeft
	// TimerLimit is the longest time for which a timer may be relied on, as the machine may sleep.
	TimerLimit() time.Duration
	// StopRenewing leaves the lease to its end, for a reason.
	StopRenewing(why error)
	// EndLease ends a lease that is renewed no more before it ends by itself.
	EndLease()
}

// TimeLeft is the time that the work of a term has if nothing renews the term's lease again.
type TimeLeft struct {
	Unbounded bool          // the term was given back, so nothing is to be waited for
	ToEnd     time.Duration // to the end of the term, and negative after it
	Margin    time.Duration // from the end of the term until another process can lead
}

// through is the time until so many eighths of the margin are over.
func (left TimeLeft) through(eighths int) time.Duration {
	return left.ToEnd + share(left.Margin, eighths)
}

// TermEnd is how a term has ended.
type TermEnd struct {
	Led  time.Duration // from the grant until the work returned
	Told error         // why the work was told to stop; nil if it was not
	Stop time.Duration // from when it was told until it returned; 0 if it was not told
	Lost error         // why the term had ended before the work returned; nil if it stood
	Err  error         // what the work returned
}

// lead leads for one term. over is true if Run ends with err. Otherwise err is why the term ended,
// and nil if the work stepped down.
func (l *loop) lead(ctx, standing context.Context, term Term) (over bool, err error) {
	held, release := term.Within(standing)
	work, stop := context.WithCancelCause(held)
	l.state.enter(RoleLeading, term)
	dog := l.startWatchdog(work, stop, term)
	deaf := func() {}
	var lookout sync.WaitGroup
	if l.cfg.StepDown {
		lookout.Go(func() { l.stepDown(work, stop, term) })
	}
	if l.cfg.ResignOnRequest {
		var listening context.Context
		listening, deaf = term.Within(context.WithoutCancel(ctx)) // also while the work stops
		lookout.Go(func() { l.honour(listening, stop, term) })
	}
	defer func() {
		dog.workReturned()
		stop(nil)
		deaf()
		lookout.Wait()
		release()
		term.Abandon() // it has ended, unless the work panicked or called Goexit
		dog.endLease()
	}()

	e := l.do(work, term, dog)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), term.TTL())
	defer cancel()
	e.resign = resign(bound, term, e.told)
	return l.judge(ctx, e)
}

// resign ends a term after its work has returned. told is why the work was told to stop.
func resign(ctx context.Context, term Term, told error) error {
	if r := (*requested)(nil); errors.As(told, &r) && r.to != "" {
		return term.ResignTo(ctx, r.to)
	}
	return term.Resign(ctx)
}

// requested is why the work of a term was told to stop, if the term was asked to resign.
type requested struct{ to, by string }

func (r *requested) Error() string {
	text := lockerr.ErrResignRequested.Error() + " " + r.by
	if r.to != "" {
		text += fmt.Sprintf(", in favour of %.200q", r.to)
	}
	return text
}
func (r *requested) Unwrap() error { return lockerr.ErrResignRequested }

// do does the work of a term, and reports its end, also if it panics or calls runtime.Goexit.
func (l *loop) do(work context.Context, term Term, dog *watchdog) (e ending) {
	began := time.Now()
	defer func() {
		lost := term.Err()
		e.told, e.stood = context.Cause(work), lost == nil
		dog.workReturned() // before the resignation: etcd may take longer than the work was allowed to
		if l.cfg.OnTermEnd == nil {
			return
		}
		end := TermEnd{Led: time.Since(began), Told: e.told, Lost: lost, Err: e.work}
		if !dog.told.IsZero() {
			end.Stop = time.Since(dog.told)
		}
		l.callbacks.put(func() { l.cfg.OnTermEnd(term, end) })
	}()
	e.work = errWorkEnded // unless it returns
	e.work = l.cfg.Work(work, term)
	return e
}

// ending is how the work of a term has ended.
type ending struct {
	work   error // what the work returned
	told   error // why the work was told to stop; nil if it was not
	stood  bool  // the term stood when the work returned
	resign error // of the resignation after that
}

// judge decides what comes after a term. The results are those of lead.
func (l *loop) judge(ctx context.Context, e ending) (over bool, err error) {
	if e.stood && e.resign != nil {
		l.cfg.Log.Warn("etcd has not confirmed a resignation; the key is deleted in the background", zap.String("name", l.cfg.Name), zap.Error(e.resign))
	}
	ended := l.ended(ctx)
	switch {
	case e.stood && e.told == nil: // the work is done, whatever has ended during the resignation
		return true, e.work
	case ended != nil:
		if e.work == nil || errors.Is(e.work, ctx.Err()) || errors.Is(e.work, e.told) {
			return true, ended
		}
		return true, errors.Join(ended, e.work)
	case !e.stood && errors.Is(e.resign, lockerr.ErrReleased): // the work has resigned by itself
		told := e.told != nil && !errors.Is(e.told, lockerr.ErrReleased)
		if told && (e.work == nil || errors.Is(e.work, e.told) || errors.Is(e.work, context.Canceled)) {
			return false, e.told
		}
		return e.work != nil, e.work
	}
	if e.work != nil && !errors.Is(e.work, context.Canceled) && !errors.Is(e.work, lockerr.ErrLost) && !errors.Is(e.work, e.told) {
		l.cfg.Log.Warn("the function of Run returned an error after its term had ended", zap.String("name", l.cfg.Name), zap.Error(e.work))
	}
	if e.stood {
		return false, e.told
	}
	return false, e.resign
}

// stepDown tells the work of a term to stop when a challenger is to take over.
func (l *loop) stepDown(work context.Context, stop context.CancelCauseFunc, term Term) {
	challenger, err := term.AwaitPreemption(work)
	switch {
	case err == nil:
		stop(fmt.Errorf("%w: %s", lockerr.ErrPreempted, challenger))
	case term.Err() == nil && work.Err() == nil: // otherwise the work has given the term away
		l.cfg.Log.Warn("cannot watch for candidates of higher priority; the leader is not preempted",
			zap.String("name", l.cfg.Name), zap.Error(err))
	}
}

// honour tells the work of a term to stop when the term is asked to resign. It listens until the term
// ends, so that the term announces for as long as it lasts that it honours requests. What etcd refuses
// may pass, as for want of space, and so may the draining of a session: it tries again after a pause.
func (l *loop) honour(ctx context.Context, stop context.CancelCauseFunc, term Term) {
	for failed := 0; ; failed++ {
		began := time.Now()
		err := term.Honour(ctx, func(to, by string) { stop(&requested{to, by}) })
		if ctx.Err() != nil || term.Err() != nil {
			return
		}
		if time.Since(began) > longestDeaf {
			failed = 0
		}
		if failed == 0 && !errors.Is(err, lockerr.ErrSessionClosed) {
			l.cfg.Log.Warn("cannot listen for requests to resign; the leader honours none until it can", zap.String("name", l.cfg.Name), zap.Error(err))
		}
		sleep(ctx, backoff.Delay(failed, firstDeaf, longestDeaf, l.candidate.Lease().ID))
	}
}

// The pauses of a leader that cannot listen for requests.
const (
	firstDeaf   = time.Second
	longestDeaf = 30 * time.Second
)
