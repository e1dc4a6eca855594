package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lease"
)

// Progress tells that the work of the term goes on, for [WithProgress]; without that
// it does nothing. It is cheap, never blocks, and may be called by any goroutine.
func (t *Term) Progress() { t.fed.Store(int64(time.Since(fedSince))) }

// fedSince is what the times of Progress are counted from.
var fedSince = time.Now()

// hungry tells for how long there was no progress.
func (t *Term) hungry() time.Duration { return time.Since(fedSince) - time.Duration(t.fed.Load()) }

// guard watches over the function of one term: that it reports progress, and that it
// returns when it was told to.
//
//	runs ── no progress ──▶ told to stop, renewed no more ──┐
//	  └──── ctx, unhealthy, lost ──▶ told to stop ──────────┤
//	                                                        └── too late ──▶ stuck, renewed no more
type guard struct {
	*runner
	work    context.Context // that of the function
	tell    context.CancelCauseFunc
	term    *Term
	back    chan struct{} // closed when the function has returned
	once    sync.Once
	done    chan struct{} // closed when nobody guards any more
	starved bool          // the lease; read after done
}

// guard guards a term until returned is called.
func (r *runner) guard(work context.Context, tell context.CancelCauseFunc, term *Term) *guard {
	g := &guard{runner: r, work: work, tell: tell, term: term, back: make(chan struct{}), done: make(chan struct{})}
	term.Progress()
	go func() {
		defer close(g.done)
		if g.awaitOrder() {
			g.awaitReturn()
		}
	}()
	return g
}

// returned tells that the function has returned.
func (g *guard) returned() {
	g.once.Do(func() { close(g.back) })
	<-g.done
}

// bury ends a lease that was to end by itself, when nobody works under it any more, so
// that the session gets another one.
func (g *guard) bury() {
	if g.starved {
		g.term.tenure.lease.EndStarved()
	}
}

// starve leaves the lease to its end.
func (g *guard) starve(why error) {
	g.term.tenure.lease.Starve(why)
	g.starved = true
}

// awaitOrder waits until the function is told to stop; false when it has returned
// before.
func (g *guard) awaitOrder() bool {
	var hungry *time.Timer
	var tick <-chan time.Time
	if g.cfg.progress > 0 {
		hungry = time.NewTimer(g.cfg.progress)
		defer hungry.Stop()
		tick = hungry.C
	}
	for {
		select {
		case <-tick:
			if left := g.cfg.progress - g.term.hungry(); left > 0 {
				hungry.Reset(left)
				continue
			}
			why := fmt.Errorf("%w for %v", ErrNoProgress, g.cfg.progress)
			g.starve(why)
			g.tell(why)
		case <-g.work.Done():
			return true
		case <-g.back:
			return false
		}
	}
}

// After a loss the work has six eighths of the margin to return in, and WithOnStuck the
// seventh. The last one is for the process to end in.
const (
	workEighths  = 6
	stuckEighths = 7
)

// afterLoss is how long the function has to return when its term expires.
func (c *runConfig) afterLoss(l *lease.Lease) time.Duration {
	limit := l.Margin() * workEighths / 8
	if c.stop > 0 {
		limit = min(limit, c.stop)
	}
	return limit
}

// within waits for done until d has passed, or as many eighths of the margin since the end
// of the term; it is false if done is not closed by then. The end of the term moves while
// its lease is renewed, and comes near when it is not, so it is read again each time; at
// least every eighth of the margin, as timers stand still while the machine sleeps.
func (g *guard) within(done <-chan struct{}, d time.Duration, eighths int) bool {
	look := g.term.tenure.lease.Slice() / 2
	until, lost := time.Now().Add(d), g.term.Done()
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
		left := min(time.Until(until), g.term.timeFor(eighths))
		if left <= 0 {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		timer.Reset(min(left, look))
	}
}

// awaitReturn waits until the function has returned, and raises the alarm when that
// takes too long.
func (g *guard) awaitReturn() {
	told := time.Now()
	g.enter(RoleStopping, g.term)
	if g.cfg.stop == 0 || g.within(g.back, g.cfg.stop, workEighths) {
		return
	}
	cause, after := context.Cause(g.work), time.Since(told)
	g.starve(fmt.Errorf("its work has not returned %v after it was told to stop (%v)", after, cause)) //nolint:errorlint // the lease does not end by that cause
	g.cfg.monitor.stuck()
	g.log.Error("the work of a term has not stopped in time; its lease is renewed no more",
		zap.String("name", g.election.name), zap.Int64("token", g.term.Token()),
		zap.NamedError("told", cause), zap.Duration("after", after), zap.Bool("exits", g.cfg.exits))
	called := make(chan struct{})
	go func() {
		defer close(called)
		if g.cfg.stuck != nil {
			g.cfg.stuck(StuckTerm{Term: g.term, Cause: cause, After: after})
		}
	}()
	if g.cfg.exits {
		g.within(called, time.Second, stuckEighths)
		g.cfg.exit(StuckExitCode)
	}
	<-called
}
