package leaderloop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// After a loss the work has so many eighths of the margin to return in, and OnStuck the next one. The
// last eighth is for the process to exit in.
const (
	workEighths  = 6
	stuckEighths = 7
)

// share is a number of eighths of a margin.
func share(margin time.Duration, eighths int) time.Duration {
	return margin * time.Duration(eighths) / 8
}

// longestOnStuck is how long an exit waits for OnStuck.
const longestOnStuck = time.Second

// Progress is the time of the last progress of a term.
type Progress struct{ last atomic.Int64 } // since progressEpoch

// progressEpoch is the origin of all times of progress.
var progressEpoch = time.Now()

// Report notes that there is progress.
func (p *Progress) Report() { p.last.Store(int64(time.Since(progressEpoch))) }

// Since is the time since the last progress.
func (p *Progress) Since() time.Duration {
	return time.Since(progressEpoch) - time.Duration(p.last.Load())
}

// watchdog watches over the work of one term: that it reports progress, and that it returns when it
// was told to stop.
//
//	leading ── no progress ──▶ told to stop, renewed no more ──┐
//	   └── ctx, unhealthy, lost, preempted ──▶ told to stop ───┤
//	                                                           └── too late ──▶ stuck, renewed no more
type watchdog struct {
	cfg   *Config
	state *state
	term  Term
	work  context.Context // of the work
	stop  context.CancelCauseFunc

	once      sync.Once
	returned  chan struct{} // closed when the work has returned
	done      chan struct{} // closed when nothing is watched any more
	unrenewed bool          // the lease is renewed no more; read after done
	told      time.Time     // when the work was told to stop; zero if it was not; read after done
}

// startWatchdog watches until workReturned is called.
func (l *loop) startWatchdog(work context.Context, stop context.CancelCauseFunc, term Term) *watchdog {
	w := &watchdog{
		cfg: &l.cfg, state: l.state, term: term, work: work, stop: stop,
		returned: make(chan struct{}), done: make(chan struct{}),
	}
	term.Progress().Report()
	go func() {
		defer close(w.done)
		if w.awaitStop() {
			w.awaitReturn()
		}
	}()
	return w
}

// workReturned ends the watch and waits until it has ended. unrenewed is final afterwards.
func (w *watchdog) workReturned() {
	w.once.Do(func() { close(w.returned) })
	<-w.done
}

// endLease ends a lease that is no longer renewed, so that the next term gets another lease at once.
// It is called after the work has returned, because another process can lead from then on.
func (w *watchdog) endLease() {
	if w.unrenewed {
		w.term.EndLease()
	}
}

func (w *watchdog) stopRenewing(why error) {
	w.term.StopRenewing(why)
	w.unrenewed = true
}

// awaitStop waits until the work is told to stop, and is false if the work has returned before.
func (w *watchdog) awaitStop() bool {
	var timer *time.Timer
	var overdue <-chan time.Time // nil if no progress is asked for
	if w.cfg.ProgressEvery > 0 {
		timer = time.NewTimer(w.cfg.ProgressEvery)
		defer timer.Stop()
		overdue = timer.C
	}
	for {
		select {
		case <-overdue:
			if left := w.cfg.ProgressEvery - w.term.Progress().Since(); left > 0 {
				timer.Reset(left)
				continue
			}
			why := fmt.Errorf("%w for %v", lockerr.ErrNoProgress, w.cfg.ProgressEvery)
			w.stopRenewing(why)
			w.stop(why)
		case <-w.work.Done():
			return true
		case <-w.returned:
			return false
		}
	}
}

// awaitReturn waits until the work has returned, and raises the alarm when that takes too long.
func (w *watchdog) awaitReturn() {
	w.told = time.Now()
	w.state.enter(RoleStopping, w.term)
	if w.cfg.StopTimeout == 0 || w.inTime(w.returned, w.cfg.StopTimeout, workEighths) {
		return
	}
	cause, after := context.Cause(w.work), time.Since(w.told)
	w.stopRenewing(fmt.Errorf("the function of Run has not returned %v after its context ended (%v)", after, cause)) //nolint:errorlint // the lease does not end by that cause
	w.state.setStuck()
	w.cfg.Log.Error("the work of a term has not stopped in time; its lease is no longer renewed",
		zap.String("name", w.cfg.Name), zap.Int64("token", w.term.Token()),
		zap.NamedError("told", cause), zap.Duration("after", after), zap.Bool("exits", w.cfg.Exit != nil))
	reported := make(chan struct{})
	go func() {
		defer close(reported) // also after runtime.Goexit
		if w.cfg.OnStuck != nil {
			w.cfg.OnStuck(w.term, cause, after)
		}
	}()
	if w.cfg.Exit != nil {
		w.inTime(reported, longestOnStuck, stuckEighths)
		w.cfg.Exit()
	}
	<-reported
}

// inTime waits for done until limit has passed, or as many eighths of the margin since the end of the
// term; it is false if done is not closed by then. The end of the term moves while its lease is
// renewed, and comes near when it is not, so it is read again each time. It is read twice within each
// TimerLimit, because timers stand still while the machine sleeps.
func (w *watchdog) inTime(done <-chan struct{}, limit time.Duration, eighths int) bool {
	interval := w.term.TimerLimit() / 2
	until, lost := time.Now().Add(limit), w.term.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return true
		case <-timer.C:
		case <-lost:
			lost = nil
		}
		left := time.Until(until)
		if term := w.term.TimeLeft(); !term.Unbounded {
			left = min(left, term.through(eighths))
		}
		if left <= 0 {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		timer.Reset(min(left, interval))
	}
}
