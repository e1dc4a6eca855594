package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// A plan is what the function of a term does.
type plan string

const (
	planLead      plan = "lead until told to stop"
	planReturn    plan = "return"
	planResign    plan = "resign"
	planTransfer  plan = "transfer"
	planStuck     plan = "be stuck"
	planHang      plan = "report no progress"
	planUnhealthy plan = "be unhealthy"
)

// stuckFor is how long a function that is stuck goes on, unless the process ends.
const stuckFor = 6 * time.Second

func (p *process) electionOptions() (opts []ElectionOption) {
	for _, v := range p.row.chosen("election") {
		opts = append(opts, v.election())
	}
	return opts
}

func (p *process) runOptions() (opts []RunOption) {
	for _, v := range p.row.chosen("run") {
		opts = append(opts, v.run(p))
	}
	return opts
}

// elect takes part in the election for as long as the process lives.
func (p *process) elect() {
	r := newRand(p.seed, hash(p.id)+77)
	e := NewElection(p.session, "e", p.electionOptions()...)
	p.op("NewElection")
	for p.runs.Err() == nil && p.session.Err() == nil {
		if r.IntN(4) == 0 && !p.calming.Load() {
			p.campaign(e, r)
			continue
		}
		run, end := context.WithCancel(p.runs)
		p.mu.Lock()
		p.endRun = end
		p.mu.Unlock()
		err := e.Run(run, p.inst.value(), func(ctx context.Context, term *Term) error { return p.work(ctx, term, r) }, p.runOptions()...)
		end()
		p.note("%s: Run returns %v", p.id, err)
		p.op("Election.Run")
		p.expected("Run", err)
		select {
		case <-time.After(time.Duration(1 + r.Int64N(int64(200*time.Millisecond)))):
		case <-p.runs.Done():
		}
	}
}

// campaign leads without a Run.
func (p *process) campaign(e *Election, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(p.runs, time.Duration(1+r.Int64N(int64(8*time.Second))))
	defer cancel()
	term, err := e.Campaign(ctx, p.inst.value())
	if err != nil {
		p.note("%s does not lead: %v", p.id, err)
		p.expected("Campaign", err)
		return
	}
	p.op("Election.Campaign")
	h := p.leads(term)
	if p.row.has("election.WithTakeover") && r.IntN(2) == 0 {
		bounded, stop := context.WithTimeout(ctx, 2*time.Second)
		if _, err := term.AwaitPreemption(bounded); err == nil {
			p.op("Term.AwaitPreemption")
			p.effect("election.WithTakeover")
		}
		stop()
	} else {
		select {
		case <-term.Done():
		case <-ctx.Done():
		case <-time.After(time.Duration(1 + r.Int64N(int64(time.Second)))):
		}
	}
	p.proclaim(ctx, term)
	p.stop(h)
	bounded, stop := context.WithTimeout(p.life, time.Duration(1+r.Int64N(int64(4*time.Second))))
	defer stop()
	p.resigned(term.Resign(bounded))
}

func (p *process) resigned(err error) {
	p.note("%s has resigned: %v", p.id, err)
	if p.expected("Resign", err); err == nil {
		p.op("Term.Resign")
	}
}

func (p *process) proclaim(ctx context.Context, term *Term) {
	value := p.inst.value()
	if err := term.Proclaim(ctx, value); err == nil {
		p.op("Term.Proclaim", "Term.Value")
		if term.Value() != value {
			p.violation(order, "%s proclaimed %q, and the value is %q", p.id, value, term.Value())
		}
	} else {
		p.expected("Proclaim", err)
	}
}

// leads takes note of a term that begins.
func (p *process) leads(term *Term) *fleetHold {
	h := p.grant(p, "e", p.id, wire.Exclusive, 0, term.hold)
	p.leaseOf.Store(term.of.Lease().ID(), p)
	return h
}

// choose draws what the function of a term does, of what the row allows.
func (p *process) choose(r *rand.Rand) plan {
	if p.calming.Load() || p.ending.Load() {
		return planLead
	}
	plans := []plan{planLead, planReturn, planResign, planTransfer}
	if p.row.has("run.WithStopTimeout") {
		plans = append(plans, planStuck, planStuck)
	}
	if p.row.has("run.WithProgress") {
		plans = append(plans, planHang, planHang)
	}
	if p.row.has("run.WithHealthCheck") {
		plans = append(plans, planUnhealthy, planUnhealthy)
	}
	return plans[r.IntN(len(plans))]
}

// work is the function of a term.
func (p *process) work(ctx context.Context, term *Term, r *rand.Rand) error {
	if p.dead() {
		return nil
	}
	what := p.choose(r)
	h := p.leads(term)
	j := &job{instance: p.inst.n}
	// A function that is stuck ends with the process if that has WithExitWhenStuck, else it has a licence.
	j.rogue = what == planStuck && !p.row.has("run.WithExitWhenStuck")
	p.begin(h, j)
	p.note("%s is to %s", p.id, what)
	defer p.stop(h)
	p.ofRun(term)

	lead := time.NewTimer(time.Duration(1 + r.Int64N(int64(1500*time.Millisecond))))
	defer lead.Stop()
	if what == planLead {
		lead.Stop()
	}
	silent := false // true if no progress is reported any more
	for {
		select {
		case <-ctx.Done():
			return p.told(ctx, term, what, r)
		case <-p.killed:
			return nil
		case <-time.After(100*time.Millisecond + time.Duration(r.Int64N(int64(100*time.Millisecond)))):
			if what != planHang && !silent {
				term.Progress()
				p.op("Term.Progress")
			}
			if what == planLead && !p.calming.Load() && r.IntN(60) == 0 {
				what = planReturn
				lead.Reset(1)
			}
			continue
		case <-lead.C:
		}
		switch what {
		case planReturn:
			p.proclaim(ctx, term)
			return nil
		case planResign:
			p.stop(h)
			bounded, cancel := context.WithTimeout(p.life, time.Duration(1+r.Int64N(int64(3*time.Second))))
			p.resigned(term.Resign(bounded))
			cancel()
			return nil
		case planTransfer:
			p.stop(h)
			p.transfer(term, r)
			return nil
		case planUnhealthy:
			p.fail()
		case planStuck:
			silent = p.trouble(r)
		case planLead, planHang: // until it is told
		}
	}
}

// transfer hands the term to another instance, or to another library's candidate.
func (p *process) transfer(term *Term, r *rand.Rand) {
	to := []string{fmt.Sprintf("instance-%d", r.IntN(fleetInstances)), "etcd", "compat"}[r.IntN(3)]
	bounded, cancel := context.WithTimeout(p.life, time.Duration(1+r.Int64N(int64(4*time.Second))))
	defer cancel()
	err := term.Transfer(bounded, to)
	p.note("%s transfers to %s: %v", p.id, to, err)
	if p.expected("Transfer", err); err == nil {
		p.op("Term.Transfer")
	}
	if term.Err() == nil {
		p.resigned(term.Resign(bounded))
	}
}

// trouble has a function told to stop: by a failing check, by its silence, or as the Run is ended.
func (p *process) trouble(r *rand.Rand) (silent bool) {
	if p.row.has("run.WithHealthCheck") && r.IntN(2) == 0 {
		p.fail()
		return false
	}
	if p.row.has("run.WithProgress") && r.IntN(2) == 0 {
		return true
	}
	p.mu.Lock()
	end := p.endRun
	p.mu.Unlock()
	end()
	return false
}

// fail has as many checks fail as make the process unhealthy, and a few more.
func (p *process) fail() {
	if every, ok := p.row.value("run.WithHealthCheck").(healthEvery); ok {
		p.healthy.Store(-int64(every.failures + 1))
	}
}

// told is what a function does that is told to stop.
func (p *process) told(ctx context.Context, term *Term, what plan, r *rand.Rand) error {
	cause := context.Cause(ctx)
	p.note("%s is told to stop: %v", p.id, cause)
	switch {
	case errors.Is(cause, ErrUnhealthy):
		p.effect("run.WithHealthCheck")
	case errors.Is(cause, ErrNoProgress):
		p.effect("run.WithProgress")
	case errors.Is(cause, ErrResignRequested):
		p.effect("run.WithResignOnRequest")
	case errors.Is(cause, ErrPreempted):
		p.effect("election.WithTakeover")
		p.tells("a leader made way for one of a higher priority")
	}
	most := time.Second
	if errors.Is(term.Err(), ErrLost) || what == planHang {
		most = term.of.Lease().Margin() / 2 // others can lead when the margin is over
	}
	if stop := p.row.duration("run.WithStopTimeout"); stop > 0 {
		most = min(most, stop/2)
	}
	if what == planStuck {
		select {
		case <-time.After(stuckFor):
		case <-p.killed:
		}
		return cause
	}
	// A term that is lost while its function comes to an end leaves the margin's half from then on.
	slow := time.NewTimer(time.Duration(1 + r.Int64N(int64(most))))
	defer slow.Stop()
	lost := term.Done()
	for {
		select {
		case <-slow.C:
			return cause
		case <-p.killed:
			return cause
		case <-lost:
			slow.Reset(time.Duration(1 + r.Int64N(int64(term.of.Lease().Margin()/2))))
			lost = nil
		}
	}
}

// ofRun takes note of what the options of a Run and of its election have changed.
func (p *process) ofRun(term *Term) {
	if own := term.of.Lease().ID(); own != p.session.Lease() && own != clientv3.NoLease {
		p.effect("run.WithStopTimeout") // the term has a lease of its own
	}
	priority, takeover := wire.Rank(term.Key())
	if priority != 0 && priority == p.row.number("election.WithPriority") {
		p.effect("election.WithPriority")
	}
	if takeover {
		p.effect("election.WithTakeover")
	}
	if status := p.monitor.Status(); status.Leading() && status.Term.Token == term.Token() {
		p.effect("run.WithMonitor")
		p.op("Monitor.Status", "ElectionStatus.Leading")
	}
}

func (p *process) withOnStuck(string) RunOption {
	return WithOnStuck(func(s StuckTerm) {
		if p.dead() {
			return
		}
		p.effect("run.WithOnStuck")
		p.tells("a function was stuck")
		if s.Term == nil || s.Cause == nil {
			p.violation(order, "stuck without a term or a cause")
		}
	})
}

// exiting is WithExitWhenStuck for a process that ends alone.
type exiting struct{ p *process }

func (e exiting) applyRun(c *runConfig) {
	WithExitWhenStuck().applyRun(c)
	c.exit = func(code int) {
		if code == StuckExitCode && !e.p.dead() {
			e.p.effect("run.WithExitWhenStuck")
			e.p.tells("a process ended itself")
			e.p.die("it exits")
		}
	}
}

func (p *process) withExit(string) RunOption { return exiting{p} }

func (p *process) withHealthCheck(every healthEvery) RunOption {
	return WithHealthCheck(HealthCheck{Interval: every.interval, Failures: every.failures, Check: func(context.Context) error {
		if n := p.healthy.Load(); n < 0 {
			p.healthy.Store(n + 1)
			return errors.New("the fleet has it fail")
		}
		return nil
	}})
}

func (p *process) withOnLeader(string) RunOption {
	return WithOnLeader(func(l Leader) {
		if !l.Vacant() {
			p.effect("run.WithOnLeader")
		}
	})
}

func (p *process) withOnRole(string) RunOption {
	return WithOnRole(func(role Role) {
		p.effect("run.WithOnRole")
		p.op("Role.String")
		if role.String() == "unknown" {
			p.violation(order, "a role without a name")
		}
	})
}
