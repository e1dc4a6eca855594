package etcdlocktest

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// Etcd is the etcd of one test. Its waits and assertions are for the goroutine of the test, all other
// methods for any.
type Etcd struct {
	t      testing.TB
	cfg    config
	server server

	fleet     fleet
	ledger    ledger
	intercept atomic.Pointer[func(Request) Action] // of Intercept
}

// server is the etcd itself.
type server interface {
	// connect makes the client of a process, and the network between them.
	connect(p *Process) (*clientv3.Client, network, error)

	stop()
	start()
	newLeader()
	compact()

	// keys are those with a prefix, leases those that are alive.
	keys(prefix string) []*mvccpb.KeyValue
	leases() []clientv3.LeaseID

	revoke(id clientv3.LeaseID)
	remove(key string)
	// age takes time away from a lease. A lease that has nothing left expires.
	age(id clientv3.LeaseID, by time.Duration)

	close()
}

// network is what lies between a process and etcd.
type network interface {
	cut(requests, replies bool)
	heal()   // what was stopped is lost
	resume() // what was stopped arrives now
	delay(by time.Duration)
	close()
}

// Run runs a test on an etcd in memory, in virtual time. It calls test in a bubble of
// testing/synctest, so the rules of [synctest.Test] apply to t and to the code under test. When test
// returns, everything has to be released; see [Etcd.NothingLeft].
func Run(t *testing.T, test func(t *testing.T, etcd *Etcd), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, New(t, opts...)) })
}

// New returns an etcd in memory that goes by the wall clock, or by virtual time if the caller runs in
// a bubble of testing/synctest already. It ends with the test, as that of [Run] does.
func New(t testing.TB, opts ...Option) *Etcd {
	t.Helper()
	e := newEtcd(t, opts)
	e.server = newSim(e)
	t.Cleanup(e.end)
	return e
}

func newEtcd(t testing.TB, opts []Option) *Etcd {
	return &Etcd{t: t, cfg: newConfig(opts), fleet: fleet{users: make(map[clientv3.LeaseID]*Process)}}
}

// Process returns the process of that name, and makes it if there is none. After [Process.Kill] the
// next call returns another process of that name, which knows nothing of the first one.
func (e *Etcd) Process(name string) *Process {
	e.t.Helper()
	p, found := e.fleet.process(name, func() *Process { return &Process{etcd: e, name: name} })
	if found {
		return p
	}
	var err error
	if p.client, p.network, err = e.server.connect(p); err != nil {
		e.t.Fatalf("etcdlocktest: process %q: %v", name, err)
	}
	return p
}

// Stop takes the whole etcd away. Requests and streams break, and later ones wait until Start. No
// lease expires meanwhile.
func (e *Etcd) Stop() { e.server.stop() }

// Start brings a stopped etcd back. Every lease gets its full TTL again, as after an election of
// etcd itself.
func (e *Etcd) Start() { e.server.start() }

// NewLeader gives etcd another leader, and with it every lease its full TTL again. Renewals are
// interrupted for a moment.
func (e *Etcd) NewLeader() { e.server.newLeader() }

// Compact removes the history of etcd up to now, as its auto-compaction does.
func (e *Etcd) Compact() { e.server.compact() }

// Hang makes etcd unresponsive to every process: connections stand, and nothing is answered until
// Resume. Leases that are not renewed expire.
func (e *Etcd) Hang() { e.fleet.each((*Process).Cut) }

// Resume ends Hang, and the cuts of all processes. What was sent meanwhile arrives late.
func (e *Etcd) Resume() { e.fleet.each((*Process).Resume) }

// Expire makes the lease of the holder of a name expire, as if the machine of its process had slept
// for longer than the TTL. Everything that its session holds ends with [etcdlock.ErrExpired]. The
// test fails if no process holds the name.
func (e *Etcd) Expire(name string) {
	e.t.Helper()
	h := e.holding(name)
	if h.process == nil {
		e.server.revoke(h.lease)
		return
	}
	h.process.Sleep(h.process.longestTTL() + time.Second)
}

// Revoke revokes the lease of the holder of a name, as an administrator does. Everything that its
// session holds ends with [etcdlock.ErrRevoked]. The test fails if no process holds the name.
func (e *Etcd) Revoke(name string) {
	e.t.Helper()
	e.server.revoke(e.holding(name).lease)
}

// Evict deletes the key of the holder of a name, as an administrator does. That hold alone ends, with
// [etcdlock.ErrEvicted]. The test fails if no process holds the name.
func (e *Etcd) Evict(name string) {
	e.t.Helper()
	e.server.remove(e.holding(name).key)
}

// Stranger is the name of the process that [Etcd.Occupy], [Etcd.Lead] and [Etcd.Ask] use.
const Stranger = "stranger"

// Occupy locks a name by a process of its own, [Stranger]. It blocks until it holds the lock. The
// caller unlocks it.
func (e *Etcd) Occupy(name string) *etcdlock.Lock {
	e.t.Helper()
	ctx, cancel := e.bounded()
	defer cancel()
	l, err := etcdlock.NewMutex(e.stranger(), name).Lock(ctx)
	if err != nil {
		e.t.Fatalf("etcdlocktest: occupy %q: %v\n%s", name, err, e.Dump())
	}
	return l
}

// Lead leads an election with a value by a process of its own, [Stranger]. It blocks until it leads.
// The caller resigns.
func (e *Etcd) Lead(election, value string) *etcdlock.Term {
	e.t.Helper()
	ctx, cancel := e.bounded()
	defer cancel()
	term, err := etcdlock.NewElection(e.stranger(), election).Campaign(ctx, value)
	if err != nil {
		e.t.Fatalf("etcdlocktest: lead %q: %v\n%s", election, err, e.Dump())
	}
	return term
}

// Ask asks the holders of a name to release it, and blocks until they have; see
// [etcdlock.Session.Ask].
func (e *Etcd) Ask(name, reason string) {
	e.t.Helper()
	ctx, cancel := e.bounded()
	defer cancel()
	if err := e.stranger().Ask(ctx, name, reason); err != nil {
		e.t.Fatalf("etcdlocktest: ask for %q: %v", name, err)
	}
}

// stranger is the session of Stranger.
func (e *Etcd) stranger() *etcdlock.Session {
	e.t.Helper()
	p := e.Process(Stranger)
	if s := p.ownSessions(); len(s) > 0 {
		return s[0]
	}
	return p.Session()
}

func (e *Etcd) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), e.cfg.patience)
}
