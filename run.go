package etcdlock

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/telemetry"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Run campaigns, calls fn while it leads, and campaigns again after every loss. It is the main loop
// of a service with one active instance.
//
// The context that fn gets ends with the term, before another process can lead. It also ends with
// ctx, and when an option tells fn to stop ([ErrUnhealthy], [ErrNoProgress], [ErrPreempted]). The
// cause of its end tells which. fn must then return. Leadership is never given away while fn runs,
// except by the lease itself. Run resigns only after fn has returned, panicked or called
// [runtime.Goexit]. It lets a panic and a Goexit through. Run campaigns again if fn resigns by
// itself to step down.
//
// Run returns in these cases:
//   - ctx has ended: its error.
//   - fn returned while the term stood and fn was not told to stop: the result of fn. nil means
//     that the work is done for good.
//   - The session has ended: [ErrSessionClosed].
//   - etcd refuses the campaign: that error.
//   - An option cannot work: [ErrInvalidOption].
//
// Run logs any other error of fn and continues. After a loss it pauses, with a jittered backoff
// from 50 ms to 5 s. The pause grows while terms that are shorter than a TTL are lost.
//
// When Run returns, fn and all callbacks have returned, and its key is gone from etcd or is being
// deleted. If etcd does not confirm the resignation within a TTL, Run logs [ErrUnconfirmed] and
// does not return it.
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
	session := e.session
	either, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(session.engine.Context(), func() { end(session.Err()) })()

	hooks := session.cfg.tracer.with(cfg.trace())
	loop := cfg.loop()
	run := runCount.Add(1)
	reportRun(hooks, e.name, run, &loop)
	if m := cfg.monitor; m != nil {
		loop.Monitor = func(s leaderloop.Status) { m.set(s, termOf(s.Term)) }
	}
	loop.Name, loop.Log, loop.StepDown = e.name, session.etcd.Log, e.cfg.takeover
	loop.Ended = func() error {
		switch {
		case ctx.Err() != nil:
			return opError("run", e.name, lockerr.OfContext(ctx))
		case session.Err() != nil:
			return opError("run", e.name, session.Err())
		}
		return nil
	}
	loop.Open = func(ctx context.Context) (leaderloop.Candidate, error) {
		c, err := e.openRun(ctx, value, cfg.ownLease())
		if err != nil {
			return nil, err
		}
		c.honours = cfg.honours
		return c, nil
	}
	loop.Work = func(ctx context.Context, t leaderloop.Term) error { return fn(ctx, termOf(t)) }
	if hooks.LeaderSeen != nil || cfg.monitor != nil {
		loop.Observe = func(ctx context.Context, callback func(func())) { e.observeRun(ctx, cfg.monitor, hooks, run, callback) }
	}
	cfg.monitor.begin(e)
	return leaderloop.Run(either, loop)
}

var runCount atomic.Int64 // how many Runs this process has begun

// observeRun reports each leader to the monitor and the hooks of a Run, until ctx ends.
func (e *Election) observeRun(ctx context.Context, monitor *Monitor, hooks *tracer, run int64, callback func(func())) {
	for leader, err := range e.Observe(ctx) {
		if err != nil {
			if !errors.Is(err, ErrSessionClosed) {
				e.session.etcd.Log.Warn("cannot observe the leader; the status and the callback of Run are out of date", zap.String("name", e.name), zap.Error(err))
			}
			return
		}
		monitor.leader(leader)
		if hooks.LeaderSeen != nil {
			callback(func() { hooks.LeaderSeen(ctx, LeaderSeenInfo{e.name, leader, run}) })
		}
	}
}

// runCandidate campaigns for a Run.
type runCandidate struct {
	election *Election // on the session of the terms
	value    string
	honours  bool     // requests to resign
	parent   *Session // the session that Run was called on; nil if it is the session of the terms
}

// openRun makes the candidate of a Run, on a session of its own if its terms must not share a
// lease.
func (e *Election) openRun(ctx context.Context, value string, dedicated bool) (*runCandidate, error) {
	if !dedicated {
		e.session.engine.RevokeFormer(ctx, e.name)
		return &runCandidate{election: e, value: value}, nil
	}
	own, err := e.session.newDedicated(ctx, e.name)
	if err != nil {
		return nil, opError("run", e.name, err)
	}
	return &runCandidate{election: &Election{session: own, name: e.name, cfg: e.cfg}, value: value, parent: e.session}, nil
}

// newDedicated makes a session like s, on the same client, with a lease for one Run alone; see
// [session.Session.Dedicated]. The caller ends it.
func (s *Session) newDedicated(ctx context.Context, name string) (*Session, error) {
	cfg := s.cfg
	cfg.Config = s.engine.Dedicated(name)
	own, err := newSession(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			err = lockerr.OfContext(ctx)
		}
		return nil, err
	}
	if err := s.ReleaseAdopted(ctx, name); err != nil { // the former process had it on this lease
		s.etcd.Log.Warn("cannot release yet what the previous process held", zap.String("name", name), zap.Error(err))
	}
	return own, nil
}

func (c *runCandidate) Campaign(ctx context.Context) (leaderloop.Term, error) {
	term, err := c.election.Campaign(ctx, c.value)
	if err != nil {
		return nil, err
	}
	if term.traced != nil {
		term.traced.honours = c.honours
	}
	return &runTerm{term: term, candidate: c}, nil
}

func (c *runCandidate) Lease() leaderloop.Lease {
	l := c.election.session.engine.LastLease()
	return leaderloop.Lease{ID: int64(l.ID()), TTL: l.TTL(), Margin: l.Margin(), Delay: l.Delay()}
}

func (c *runCandidate) Close() {
	if c.parent != nil {
		c.election.session.engine.EndDedicated()
	}
}

// runTerm is a term of a Run.
type runTerm struct {
	term      *Term
	candidate *runCandidate
}

// termOf returns the term that a user of Run gets, nil for none.
func termOf(t leaderloop.Term) *Term {
	if t == nil {
		return nil
	}
	return t.(*runTerm).term
}

func (t *runTerm) Token() int64                   { return t.term.Token() }
func (t *runTerm) Err() error                     { return t.term.Err() }
func (t *runTerm) Done() <-chan struct{}          { return t.term.Done() }
func (t *runTerm) Progress() *leaderloop.Progress { return &t.term.progress }
func (t *runTerm) Abandon()                       { t.term.of.Abandon() }
func (t *runTerm) TTL() time.Duration             { return t.term.of.Lease().TTL() }
func (t *runTerm) TimerLimit() time.Duration      { return t.term.of.Lease().Slice() }
func (t *runTerm) StopRenewing(why error)         { t.term.of.Lease().StopRenewing(why) }
func (t *runTerm) EndLease()                      { t.term.of.Lease().EndUnrenewed() }

func (t *runTerm) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return t.term.of.Within(ctx)
}

func (t *runTerm) AwaitPreemption(ctx context.Context) (challenger string, err error) {
	c, err := t.term.AwaitPreemption(ctx)
	return wire.Quote(c.Value), err
}

// Honour reports the requests that can be fulfilled. A request is refused while no candidate that it is for
// waits and lives, because the work would end for nothing. It is looked at again while it stands.
func (t *runTerm) Honour(ctx context.Context, tell func(to, by string)) error {
	return t.term.of.Honour(ctx, func(asked ask.Request, first bool) (done bool) {
		r := ReleaseRequest(asked)
		if first {
			t.term.traced.asked(r)
		}
		follows, err := t.term.follows(ctx, r.Candidate)
		switch {
		case err != nil || ctx.Err() != nil: // ctx or the term has ended, or etcd refuses
			return false
		case follows:
			tell(r.Candidate, r.by())
			return true
		case first:
			t.candidate.election.session.etcd.Log.Warn("a request to resign is refused for now, because no candidate that may follow waits with a renewed lease",
				zap.String("name", r.Name), zap.String("candidate", wire.Quote(r.Candidate)), zap.String("by", r.by()))
		}
		return false
	})
}

// ResignTo transfers the term to a candidate, and resigns if that does not wait any more.
func (t *runTerm) ResignTo(ctx context.Context, candidate string) error {
	err := t.term.Transfer(ctx, candidate)
	if errors.Is(err, ErrNoCandidate) || err != nil && t.term.Err() == nil {
		t.candidate.election.session.etcd.Log.Warn("the leadership is not transferred to the candidate that was asked for; the next candidate leads",
			zap.String("name", t.term.Name()), zap.String("candidate", wire.Quote(candidate)), zap.Error(err))
	}
	switch {
	case t.term.Err() == nil:
		return t.Resign(ctx)
	case errors.Is(err, ErrNoCandidate):
		return nil
	default:
		return err
	}
}

// Resign resigns. If the session that Run was called on was orphaned, its dedicated session is
// orphaned too, so that the next process continues with the term.
func (t *runTerm) Resign(ctx context.Context) error {
	c := t.candidate
	if s := c.election.session; c.parent != nil && s.cfg.LeaseFile != "" && errors.Is(c.parent.Err(), ErrOrphaned) {
		_, _ = s.Orphan(ctx) // or the term is resigned after all
	}
	return t.term.Resign(ctx)
}

// TimeLeft returns when the term ends. It ends at the deadline of its lease, which each answered
// renewal moves, or when the term is lost before. A term that was given back has no bound.
func (t *runTerm) TimeLeft() leaderloop.TimeLeft {
	err, l := t.term.Err(), t.term.of.Lease()
	margin := l.Margin()
	if err != nil && !errors.Is(err, ErrExpired) {
		margin -= l.Delay() // the lock-delay is kept only when a lease expires
	}
	return leaderloop.TimeLeft{
		Unbounded: errors.Is(err, ErrReleased), ToEnd: t.term.of.Remaining(), Margin: margin,
	}
}

// reportRun has a loop report to the hooks.
func reportRun(t *tracer, election string, run int64, l *leaderloop.Config) {
	ctx := context.Background()
	if t.Role != nil {
		l.OnRole = func(r leaderloop.Role) { t.Role(ctx, RoleInfo{election, Role(r), run}) }
	}
	if t.Health != nil {
		l.OnHealth = func(err error) { t.Health(ctx, HealthInfo{election, err}) }
	}
	if t.Stuck != nil {
		l.OnStuck = func(term leaderloop.Term, cause error, after time.Duration) {
			t.Stuck(ctx, StuckTerm{Term: termOf(term), Cause: cause, After: after})
		}
	}
	if t.TermEnd != nil {
		l.OnTermEnd = func(term leaderloop.Term, e leaderloop.TermEnd) {
			of := termOf(term)
			if errors.Is(e.Told, ErrReleased) && of.transferred.Load() {
				e.Told = telemetry.ErrTransferred
			}
			t.TermEnd(ctx, TermEndInfo{
				Election: election, Token: of.Token(), CreateRevision: of.CreateRevision(),
				Led: e.Led, Told: e.Told, Stop: e.Stop, Lost: e.Lost, Err: e.Err,
			})
		}
	}
}
