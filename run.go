package etcdlock

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/backoff"
)

// Run campaigns, calls fn while it leads, and campaigns again after every loss: the
// main loop of a service with one active instance.
//
// The context that fn gets ends with the term, before anybody else can lead, with ctx,
// and when fn is to stop by an option ([ErrUnhealthy], [ErrNoProgress],
// [ErrPreempted]); the cause tells which. fn must then return. Leadership is never given away while fn runs,
// except by the lease itself: Run resigns only after fn has returned (and if fn
// panics or calls [runtime.Goexit], which Run lets through). fn may resign by itself to step down; Run then campaigns again.
//
// Run returns when ctx ends, with its error; when fn returned while the term stood and
// it was not told to stop, with fn's result, so that nil means that the work is done
// for good; when the session ends, with [ErrSessionClosed]; when etcd refuses the
// campaign; and with [ErrInvalidOption]. What fn returns otherwise ends nothing, and is
// logged. After a loss Run pauses, with a jittered backoff from 50 ms to 5 s, that
// grows while terms are lost that were shorter than a TTL.
//
// When Run returns, nothing of it is left: fn and all callbacks have returned, and its
// key is gone from etcd or is being deleted. A Resign of Run that etcd does not confirm
// within a TTL is logged with [ErrUnconfirmed], and is no error of Run.
func (e *Election) Run(ctx context.Context, value string, fn func(ctx context.Context, term *Term) error, opts ...RunOption) error {
	cfg, err := newRunConfig(opts)
	if err == nil {
		err = e.cfg.validate()
	}
	if err == nil {
		err = e.session.usable(e.name)
	}
	if err != nil {
		return opError("run", e.name, err)
	}
	r := &runner{election: e, value: value, fn: fn, cfg: cfg, log: e.session.log}
	return r.run(ctx)
}

// runner is a Run under way.
type runner struct {
	election *Election // on the session that the terms stand under
	value    string
	fn       func(context.Context, *Term) error
	cfg      runConfig
	log      *zap.Logger
	health   *health // nil: always well
	notices  *notices
	elder    *Session // the one that Run was called on, if the terms stand under another one
}

// errWorkEnded is told to the monitor of a Run that did not return.
var errWorkEnded = errors.New("the function of Run has ended its goroutine, by runtime.Goexit or a panic")

// run starts what goes on beside the campaigns, and ends it.
func (r *runner) run(ctx context.Context) (err error) {
	r.notices = startNotices()
	defer r.notices.end()
	seen := r.election
	r.cfg.monitor.begin(seen)
	err = errWorkEnded // unless it returns
	defer func() { r.cfg.monitor.end(err) }()
	r.enter(RoleObserver, nil)
	defer r.enter(RoleObserver, nil)

	if r.cfg.ownLease() {
		own, err := seen.session.newDedicated(ctx, seen.name)
		if err != nil {
			return opError("run", seen.name, err)
		}
		defer own.endDedicated()
		r.election, r.elder = &Election{session: own, name: seen.name, cfg: seen.cfg}, seen.session
		var tell context.CancelCauseFunc
		asked := ctx
		ctx, tell = context.WithCancelCause(ctx)
		defer tell(nil)
		defer context.AfterFunc(r.elder.ctx, func() { tell(r.elder.Err()) })()
		defer func() {
			if asked.Err() == nil && r.elder.Err() != nil && errors.Is(err, r.elder.Err()) {
				err = opError("run", seen.name, r.elder.Err())
			}
		}()
	} else {
		seen.session.revokeFormer(ctx, seen.name)
	}
	r.tellLimits()
	beside, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	if r.cfg.onLeader != nil || r.cfg.monitor != nil {
		helpers.Go(func() { r.observe(beside, seen) })
	}
	if r.cfg.health != nil {
		r.health = newHealth(*r.cfg.health)
		r.health.told = r.cfg.monitor.health
		helpers.Go(func() { r.health.run(beside) })
	}
	return r.campaigns(ctx)
}

// tellLimits tells how long the function has to return after a loss: less than the stop
// timeout, mostly, as others can lead when the margin is over.
func (r *runner) tellLimits() {
	l := r.election.session.lastLease()
	after := r.cfg.afterLoss(l)
	r.cfg.monitor.stopAfterLoss(after)
	if r.cfg.stop > 0 {
		r.log.Info("campaigning; the work has to return in time when it is told to stop", zap.String("name", r.election.name),
			zap.Duration("timeout", r.cfg.stop), zap.Duration("timeout-after-loss", after),
			zap.Duration("ttl", l.TTL()), zap.Duration("margin", l.Margin()-l.Delay()), zap.Bool("exits", r.cfg.exits))
	}
}

// campaigns campaigns and leads until there is a reason to return.
func (r *runner) campaigns(ctx context.Context) error {
	session, name := r.election.session, r.election.name
	for failed := 0; ; {
		term, began, over, err := r.campaign(ctx)
		r.enter(RoleObserver, nil)
		switch {
		case over:
			return err
		case ctx.Err() != nil:
			return opError("run", name, contextError(ctx))
		case errors.Is(err, ErrSessionClosed):
			return err
		case errors.Is(err, ErrUnhealthy):
			failed = 0
			continue // when it is well again
		case err == nil, errors.Is(err, ErrPreempted): // stepped down
			failed = 0
		case !errors.Is(err, ErrLost) && !errors.Is(err, ErrNoProgress):
			return err
		case term != nil && time.Since(began) > session.TTL():
			failed = 0
		}
		select {
		case <-time.After(backoff.Delay(failed, 50*time.Millisecond, 5*time.Second, int64(session.lastLease().ID()))):
		case <-ctx.Done():
		case <-session.Done():
		}
		failed++
	}
}

// campaign waits until it may stand, stands, and leads; for over and err see lead.
func (r *runner) campaign(ctx context.Context) (term *Term, began time.Time, over bool, err error) {
	standing, stop, err := r.health.standing(ctx, r.election.session.ctx)
	if err != nil {
		return nil, began, false, opError("run", r.election.name, err)
	}
	defer stop()
	r.enter(RoleCandidate, nil)
	if term, err = r.election.Campaign(standing, r.value); err != nil {
		return nil, began, false, err
	}
	began = time.Now()
	over, err = r.lead(ctx, standing, term)
	return term, began, over, err
}

// lead runs fn for one term. over says that Run ends with err; otherwise err is why
// the term ended, nil if fn stepped down.
func (r *runner) lead(ctx, standing context.Context, term *Term) (over bool, err error) {
	held, stop := term.within(standing)
	work, cancel := context.WithCancelCause(held)
	r.enter(RoleLeading, term)
	g := r.guard(work, cancel, term)
	var rivals sync.WaitGroup
	if r.election.cfg.takeover {
		rivals.Go(func() { r.makeWay(work, cancel, term) })
	}
	defer func() {
		g.returned()
		cancel(nil)
		rivals.Wait()
		stop()
		term.abandon() // nothing is left to do, unless fn panicked
		g.bury()
	}()
	err = r.fn(work, term)

	told, stood := context.Cause(work), term.Err() == nil
	g.returned() // fn is not waited for any more, whatever etcd does
	resign, cancelResign := context.WithTimeout(context.WithoutCancel(ctx), term.tenure.lease.TTL())
	defer cancelResign()
	if s := r.election.session; r.elder != nil && s.file != nil && errors.Is(r.elder.Err(), ErrOrphaned) {
		_, _ = s.Orphan(resign) // or the term is resigned after all
	}
	rerr := term.Resign(resign)
	if stood && rerr != nil {
		r.log.Warn("resigned, but not confirmed by etcd", zap.String("name", r.election.name), zap.Error(rerr))
	}
	switch {
	case stood && told == nil: // the work is done, whatever ended during the resignation
		return true, err
	case ctx.Err() != nil:
		if err != nil && !errors.Is(err, ctx.Err()) {
			return true, errors.Join(opError("run", r.election.name, contextError(ctx)), err)
		}
		return true, opError("run", r.election.name, contextError(ctx))
	case !stood && errors.Is(rerr, ErrReleased):
		return err != nil, err
	}
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrLost) && !errors.Is(err, told) {
		r.log.Warn("the work of a term that was over ended with an error", zap.String("name", r.election.name), zap.Error(err))
	}
	if stood {
		return false, told
	}
	return false, rerr
}

// observe tells who leads, until ctx ends.
func (r *runner) observe(ctx context.Context, e *Election) {
	for leader, err := range e.Observe(ctx) {
		if err != nil {
			if !errors.Is(err, ErrSessionClosed) {
				r.log.Warn("cannot observe who leads", zap.String("name", e.name), zap.Error(err))
			}
			return
		}
		r.cfg.monitor.leader(leader)
		if r.cfg.onLeader != nil {
			r.notices.leader(leader, r.cfg.onLeader)
		}
	}
}

// enter tells of another role; of the one that it has already is no news.
func (r *runner) enter(role Role, term *Term) {
	if r.notices.enter(role) && r.cfg.onRole != nil {
		r.notices.put(func() { r.cfg.onRole(role) })
	}
	r.cfg.monitor.enter(role, term)
}
