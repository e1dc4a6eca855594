package etcdlock

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// reports E5, E6: services with crash detection that are killed, started again, cut off and hard to reach, on an etcd whose
// answers are late or lost. No two of those that live work at a time, none that lives is condemned, the reads stay within their
// bound, and when all is well again each leader that is killed is replaced within a second.
//
//	ETCDLOCK_SEEDS=1000 go test -v -run TestCrashDetectionInFoulWeather .
func TestCrashDetectionInFoulWeather(t *testing.T) {
	var terms, killed, condemned int
	first, count := seeds(t, 40)
	for seed := first; seed < first+count; seed++ {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			f := &fleet{world: w, net: newFakeNet(), rand: rand.New(rand.NewPCG(seed, 0)), seed: seed}
			f.run()
			require.Empty(w, f.violations, "seed %d", seed)
			terms, killed, condemned = terms+f.terms, killed+f.killed, condemned+f.condemned
		})
	}
	t.Logf("%d terms, %d leaders killed, %d condemned", terms, killed, condemned)
	require.Positive(t, killed)
	require.Positive(t, condemned)
}

const fleetSize = 4

// fleet is one schedule: hosts with one service each, which is started again after a crash.
type fleet struct {
	*world
	net  *fakeNet
	rand *rand.Rand
	seed uint64

	mu                       sync.Mutex
	services                 [fleetSize]*service
	started                  int
	reads                    map[string]int // of liveness records, by client, since the last look
	terms, killed, condemned int
	violations               []string
	running                  sync.WaitGroup
	foreign                  [fleetSize]net.Listener // what has the address of a host whose service is down
}

// service is one process. It is guarded by the fleet's mu.
type service struct {
	host    int
	client  string
	session *Session
	cancel  context.CancelFunc
	dead    bool
	term    *Term // of the work that goes on; nil for none
}

func (f *fleet) address(host int) string { return fmt.Sprintf("10.0.0.%d:7400", host+1) }

func (f *fleet) violation(format string, args ...any) {
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}

// start starts the service of a host.
func (f *fleet) start(host int) {
	if l := f.foreign[host]; l != nil {
		_ = l.Close()
		f.foreign[host] = nil
	}
	f.started++
	s := &service{host: host, client: fmt.Sprintf("p%d", f.started)}
	s.session = f.detecting(f.net, s.client, f.address(host), WithTTL(simTTL))
	ctx, cancel := context.WithCancel(f.ctx)
	s.cancel = cancel
	f.mu.Lock()
	f.services[host] = s
	f.mu.Unlock()
	work := rand.New(rand.NewPCG(f.seed, uint64(f.started)))
	f.running.Go(func() {
		_ = NewElection(s.session, "e").Run(ctx, s.client, func(ctx context.Context, term *Term) error {
			f.begin(s, term)
			defer f.end(s)
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(1+work.Int64N(int64(20*simTTL))) + simTTL):
				_ = term.Resign(ctx)
			}
			return nil
		})
	})
}

// begin and end are called by the work of a service.
func (f *fleet) begin(s *service, term *Term) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.dead || term.Err() != nil {
		return
	}
	f.terms++
	if other := f.leading(); other != nil {
		f.violation("%s begins to work while %s does", s.client, other.client)
	}
	s.term = term
}

func (f *fleet) end(s *service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.term = nil
}

// leading is the service that lives and works in a term that stands. Called with mu held.
func (f *fleet) leading() *service {
	for _, s := range f.services {
		if s != nil && !s.dead && s.term != nil && s.term.Err() == nil {
			return s
		}
	}
	return nil
}

// kill is kill -9.
func (f *fleet) kill(s *service) {
	f.Client(s.client).Cut()
	f.mu.Lock()
	if f.leading() == s {
		f.killed++
	}
	s.dead = true
	f.mu.Unlock()
	f.net.kill(f.address(s.host))
	s.cancel()
}

// reuse gives the address of a dead service to a program that accepts connections and says nothing.
func (f *fleet) reuse(host int) {
	l, err := f.net.listen(f.address(host))
	if err != nil {
		return
	}
	f.foreign[host] = l
	f.running.Go(func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	})
}

// changed looks for the record of a service that lives, and is condemned.
func (f *fleet) changed(_ int64, ev *mvccpb.Event) {
	lease, ok := strings.CutPrefix(string(ev.Kv.Key), "etcdlock.alive.")
	var r aliveRecord
	if !ok || json.Unmarshal(ev.Kv.Value, &r) != nil || !r.Condemned {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.condemned++
	for _, s := range f.services {
		if s != nil && !s.dead && hex(s.session.Lease()) == lease {
			f.violation("%s lives, and is condemned", s.client)
		}
	}
}

// perturb loses and delays single requests, and counts reads of liveness records.
func (f *fleet) perturb(c simetcd.Call) simetcd.Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(about(c.Req), "etcdlock.alive.") && c.Kind == simetcd.Range {
		f.reads[c.Client]++
	}
	if c.Kind == simetcd.Watch || c.Kind == simetcd.LeaseGrant {
		return simetcd.Action{} // nothing is lost of a stream alone; a new session waits for its grant
	}
	late := time.Duration(f.rand.Int64N(int64(2 * simTTL)))
	switch f.rand.IntN(50) {
	case 0, 1:
		return simetcd.Action{DropReply: true}
	case 2:
		return simetcd.Action{DropRequest: true}
	case 3:
		return simetcd.Action{DelayRequest: late}
	case 4:
		return simetcd.Action{DelayReply: late}
	}
	return simetcd.Action{}
}

func (f *fleet) run() {
	f.reads = map[string]int{}
	f.OnEvent(f.changed)
	for host := range fleetSize {
		f.start(host)
	}
	f.pass(time.Second)
	f.Intercept(f.perturb)
	minute := time.Now()
	for range 60 {
		f.pass(time.Duration(f.draw(int64(2 * simTTL))))
		f.disturb()
		if time.Since(minute) > time.Minute {
			f.lookAtReads(time.Since(minute))
			minute = time.Now()
		}
	}
	f.Intercept(nil)
	for host, s := range f.services {
		f.net.setSilent(f.address(host), false)
		f.net.setLasts(f.address(host), nil)
		if s.dead {
			f.start(host)
		} else {
			f.Client(s.client).Heal()
		}
	}

	for range fleetSize - 1 {
		f.pass(3 * steady) // all connections are there, and last
		f.replacesTheLeader()
	}
	f.mu.Lock()
	services := f.services
	f.mu.Unlock()
	for host, s := range services {
		s.cancel()
		if l := f.foreign[host]; l != nil {
			_ = l.Close()
		}
	}
	f.running.Wait()
}

// replacesTheLeader kills the leader, or the next one if it resigns in this instant.
func (f *fleet) replacesTheLeader() {
	f.mu.Lock()
	leader := f.leading()
	f.mu.Unlock()
	for n := 0; leader == nil; n++ {
		if f.pass(10 * time.Millisecond); n > 100 {
			f.violation("nobody leads when all is well again")
			return
		}
		f.mu.Lock()
		leader = f.leading()
		f.mu.Unlock()
	}
	died := time.Now()
	f.kill(leader)
	for {
		f.pass(5 * time.Millisecond)
		f.mu.Lock()
		next := f.leading()
		f.mu.Unlock()
		switch {
		case next != nil:
			return
		case time.Since(died) > time.Second:
			f.violation("%s was killed, and nobody leads a second later", leader.client)
			return
		}
	}
}

func (f *fleet) draw(n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.Int64N(n)
}

// disturb lets one thing go wrong on one host, or get well again.
func (f *fleet) disturb() {
	host := int(f.draw(fleetSize))
	f.mu.Lock()
	if leader := f.leading(); leader != nil && f.rand.IntN(2) == 0 {
		host = leader.host
	}
	s, address := f.services[host], f.address(host)
	f.mu.Unlock()
	what := f.draw(12)
	switch {
	case s.dead && what < 6:
		f.start(host)
	case s.dead && what < 8:
		f.reuse(host)
	case s.dead:
	case what < 3:
		f.kill(s)
	case what == 3:
		f.Client(s.client).Cut() // as a process that is stopped: its kernel accepts
		f.pass(time.Duration(f.draw(int64(2 * simTTL))))
		f.Client(s.client).Resume()
	case what == 4:
		f.Client(s.client).CutReplies()
		f.pass(time.Duration(f.draw(int64(2 * simTTL))))
		f.Client(s.client).Heal()
	case what == 5:
		f.net.setSilent(address, true)
		f.net.breakConns(address)
	case what == 6:
		f.net.setSilent(address, false)
	case what == 7:
		f.net.breakConns(address)
	case what == 8:
		lasts := time.Duration(f.draw(2) * f.draw(int64(2*steady)))
		f.net.setLasts(address, func(int) time.Duration { return lasts })
	case what == 9:
		f.net.setLasts(address, nil)
	case what == 10:
		f.NewLeader()
	default:
		f.CutWatches()
	}
}

// lookAtReads checks the reads of a minute or more. A candidate begins again with each leader and each campaign, so the bound is
// that of a candidate times those.
func (f *fleet) lookAtReads(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for client, n := range f.reads {
		if most := 60 * int(d/time.Minute+1) * 5; n > most {
			f.violation("%s read %d times in %v", client, n, d)
		}
	}
	clear(f.reads)
}
