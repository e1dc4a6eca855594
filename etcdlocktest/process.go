package etcdlocktest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/clock"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Process stands for one process of a fleet, on a machine of its own. It has a client of etcd, and a
// network and a clock that can fail. The goroutines of the test are not stopped by anything that is
// done to a Process.
type Process struct {
	etcd    *Etcd
	name    string
	client  *clientv3.Client
	network network
	slept   atomic.Int64 // by how much its clock is ahead, in nanoseconds

	mu       sync.Mutex
	sessions []*etcdlock.Session // of Session
	looks    []*func()           // to be called after Sleep, in virtual time
	faults   faults
	requests [kinds]int
}

// hooks are those of the sessions of the process.
func (p *Process) hooks() testhook.Hooks {
	now, jumps := clock.Now, (func(func()) func())(nil)
	if p.etcd.cfg.bubble {
		start := time.Now()
		now, jumps = func() time.Duration { return time.Since(start) }, p.jumps
	}
	return testhook.Hooks{
		Clock:   func() time.Duration { return now() + time.Duration(p.slept.Load()) },
		Jumps:   jumps,
		Opened:  p.opened,
		Granted: p.granted,
	}
}

// jumps calls look after each Sleep, until remove is called.
func (p *Process) jumps(look func()) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks = append(p.looks, &look)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.looks = slices.DeleteFunc(p.looks, func(l *func()) bool { return l == &look })
	}
}

// Name returns the name of the process.
func (p *Process) Name() string { return p.name }

// Client returns the client of etcd that the process has, for code that makes its sessions itself.
// It is closed when the test ends.
func (p *Process) Client() *clientv3.Client { return p.client }

// Session makes a session on the client of the process. It blocks until etcd has answered. Its owner
// is the name of the process, unless opts say otherwise. It is closed when the test ends. Each call
// makes another session.
func (p *Process) Session(opts ...etcdlock.SessionOption) *etcdlock.Session {
	p.etcd.t.Helper()
	ctx, cancel := p.etcd.bounded()
	defer cancel()
	opts = append([]etcdlock.SessionOption{etcdlock.WithOwner(p.name)}, opts...)
	s, err := etcdlock.NewSession(ctx, p.client, opts...)
	if err != nil {
		p.etcd.t.Fatalf("etcdlocktest: session of process %q: %v", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions = append(p.sessions, s)
	return s
}

func (p *Process) ownSessions() []*etcdlock.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sessions)
}

// Cut cuts the process off from etcd in both directions. Neither side notices: requests and answers
// vanish until Heal or Resume.
func (p *Process) Cut() { p.network.cut(true, true) }

// CutRequests cuts the way to etcd only.
func (p *Process) CutRequests() { p.network.cut(true, false) }

// CutReplies cuts the way back only: requests take effect, and the process does not learn of it.
func (p *Process) CutReplies() { p.network.cut(false, true) }

// Heal ends every fault of the process but a Sleep. What a cut has stopped is lost.
func (p *Process) Heal() { p.calm(p.network.heal) }

// Resume is Heal, except that what a cut has stopped arrives now. A request can so take effect long
// after its caller has given up.
func (p *Process) Resume() { p.calm(p.network.resume) }

func (p *Process) calm(network func()) {
	p.mu.Lock()
	p.faults = faults{}
	p.mu.Unlock()
	p.network.delay(0)
	network()
}

// Delay adds a latency to each direction between the process and etcd.
func (p *Process) Delay(by time.Duration) { p.network.delay(by) }

// SlowRenewals delays the answer to each renewal of a lease.
func (p *Process) SlowRenewals(by time.Duration) {
	p.set(func(f *faults) { f.slowRenewals = by })
}

// DropRenewals loses each renewal of a lease on its way to etcd. Everything else works, until the
// lease expires.
func (p *Process) DropRenewals() { p.set(func(f *faults) { f.dropRenewals = true }) }

// LoseNextReply loses the answer to the next request of a kind. The request takes effect.
func (p *Process) LoseNextReply(kind Kind) { p.set(func(f *faults) { f.lose[kind]++ }) }

func (p *Process) set(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
}

// Sleep plays a machine that was paused, as after SIGSTOP, a long collection of garbage or a
// suspended virtual machine. Afterwards the clock of the process is ahead by d, its leases in etcd
// are older by d, and no goroutine of the process has seen the time pass. Time does not pass for any
// other process.
func (p *Process) Sleep(d time.Duration) {
	p.slept.Add(int64(d))
	leases := p.etcd.fleet.leases(p)
	p.mu.Lock()
	looks := slices.Clone(p.looks)
	p.mu.Unlock()
	for _, look := range looks {
		(*look)()
	}
	for _, id := range leases {
		p.etcd.server.age(id, d)
	}
}

// Kill ends the process as kill -9 does. Nothing that it sent arrives any more, its keys stay until
// their lease expires, and its sessions end with [etcdlock.ErrClientClosed].
func (p *Process) Kill() {
	p.etcd.fleet.remove(p)
	p.network.cut(true, true)
	p.end()
}

// end closes the client and the network.
func (p *Process) end() {
	_ = p.client.Close()
	p.network.close()
}

// longestTTL is the longest TTL that etcd has granted to a session of the process.
func (p *Process) longestTTL() (ttl time.Duration) {
	for _, o := range p.etcd.ledger.sessions() {
		if o.process == p && o.session.Err() == nil {
			ttl = max(ttl, o.session.LeaseTTL())
		}
	}
	return ttl
}
