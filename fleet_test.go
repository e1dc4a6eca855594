package etcdlock

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	fleetShare     = 100 // schedules that are played without more being asked for, in about 40 s of one processor
	fleetInstances = 3
	fleetTime      = 45 * time.Second // of faults, in one schedule
	fleetTTL       = 5 * time.Second  // the longest one
	fleetDelay     = 4 * time.Second  // the longest lock-delay
)

// TestSimulationFleet runs services as they are put together and operated. Each process draws all of its
// options, uses every primitive, ends by Close, Orphan or a kill, and the next process of its instance has other
// options, with the lease file or without. Clients on etcd's own package and on the compat package stand in the
// same queues. Faults are those of TestSimulation and more. See fleetReferee for what is promised meanwhile, and
// deployment.aftermath for what is promised when the faults are over.
//
// With fleetShare schedules or more it fails when a pair of options, each at any value, did not occur in a process in
// which both had an effect, or when an exported operation was never called with success.
//
//	ETCDLOCK_SEEDS=5000 go test -v -run TestSimulationFleet .
//	ETCDLOCK_SEED=17 go test -v -run TestSimulationFleet .
func TestSimulationFleet(t *testing.T) {
	require.NotNil(t, OpenCompat)
	share := uint64(fleetShare)
	if raceEnabled {
		share /= 10
	}
	first, count := seeds(t, share)
	cover := newCoverage()
	var broken []string
	for seed := first; seed < first+count; seed++ {
		f := playFleet(t, seed, cover)
		if count == 1 {
			t.Logf("the transcript of schedule %d:\n%s", seed, strings.Join(f.transcript, "\n"))
		}
		if len(f.violations) > 0 {
			broken = append(broken, fmt.Sprintf("schedule %d: %s: %s", seed, f.violations[0].promise, f.violations[0].what))
		}
		p := &played{referee: &referee{transcript: f.transcript, violations: f.violations}, seed: seed, test: t.Name()}
		if verdict := p.verdict(); verdict != "" && len(broken) == 1 {
			t.Error(verdict)
		}
	}
	t.Log(cover.figures())
	if len(broken) > 0 {
		t.Fatalf("%d of %d schedules break a promise:\n%s", len(broken), count, strings.Join(broken, "\n"))
	}
	if count >= fleetShare {
		missing := cover.missing()
		require.Empty(t, missing, "%d of %d are missing", len(missing), cover.wanted())
	}
}

// A deployment is the fleet of one schedule.
type deployment struct {
	*world
	*fleetReferee
	seed       uint64
	rand       *rand.Rand // of the faults
	rates      [6]int     // of single requests, out of 200, by the seed; see perturb
	cover      *coverage
	net        *fakeNet
	dir        string // of lease files
	instances  []*instance
	clocks     []atomic.Int64 // by instance: how long its machine has slept
	late       sync.Map       // ids of processes that hear late
	clientOf   sync.Map       // the process of a client, by name
	leaseOf    sync.Map       // the process of a lease
	traces     sync.Map       // the traceLog of a process, if it has one
	leases     atomic.Int64   // that were asked for
	missing    []string       // keys with a next deletion that no watch is told
	finished   chan struct{}  // closed when the processes may go
	calming    atomic.Bool    // no further fault happens by itself, and no process locks
	well       atomic.Bool    // no faults any more
	crowd      sync.WaitGroup // strangers
	goroutines int            // before the schedule
	vacant     time.Duration  // from the end of the faults until a function was at work
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

func playFleet(t *testing.T, seed uint64, cover *coverage) *deployment {
	t.Helper()
	dir := t.TempDir()
	var f *deployment
	simulateWith(t, simetcd.Config{Seed: seed, Reproducible: true}, func(w *world) {
		f = &deployment{
			goroutines: runtime.NumGoroutine(), world: w, fleetReferee: newFleetReferee(w), seed: seed, rand: rand.New(rand.NewPCG(seed, 0)),
			finished: make(chan struct{}), cover: cover, net: newFakeNet(), dir: dir, clocks: make([]atomic.Int64, fleetInstances),
		}
		for i := range f.rates {
			f.rates[i] = max(f.rand.IntN(5)-2, 0)
		}
		for i := range fleetInstances {
			f.instances = append(f.instances, &instance{n: i})
		}
		f.run()
	})
	cover.schedule(f)
	return f
}

// op counts operations of the API that have done what they are for.
func (f *deployment) op(names ...string) {
	for _, name := range names {
		f.cover.op(name)
	}
}

// tells counts an effect that needs more than one process.
func (f *deployment) tells(what string) { f.cover.op(what) }

// restored tells whether etcd has had another history in this schedule.
func (f *deployment) restored() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restores > 0
}

func (f *deployment) run() {
	f.Intercept(f.perturb)
	stop := make(chan struct{})
	var all, trouble sync.WaitGroup
	for _, in := range f.instances {
		all.Go(func() { in.serve(f, stop) })
	}
	trouble.Go(func() { f.disturb(stop) })
	f.strangers(stop)
	f.pass(fleetTime)
	close(stop)
	trouble.Wait()
	f.calming.Store(true)
	f.quieten()
	f.aftermath()
	close(f.finished)
	all.Wait()
	f.closeAll()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// serve runs one process after the other until stop; the last one stays, unless it exits.
func (in *instance) serve(f *deployment, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(f.seed, uint64(500+in.n)))
	for n := 1; ; n++ {
		p := f.startProcess(in, n)
		in.present.Store(p)
		if p != nil {
			select {
			case <-time.After(4*time.Second + time.Duration(r.Int64N(int64(14*time.Second)))):
			case <-p.exited:
			case <-stop:
			}
			if f.calming.Load() || isClosed(stop) {
				select {
				case <-p.exited: // by what went wrong before
				case <-f.finished:
					return
				}
			}
			in.present.Store(nil)
			in.before = p
			switch end := r.IntN(3); {
			case p.dead():
				p.kill("it has exited")
			case end == 0:
				p.close()
			case end == 1:
				p.orphan()
			default:
				p.kill("it is killed")
			}
		}
		time.Sleep(time.Duration(1 + r.Int64N(int64(2*time.Second))))
	}
}

// aftermath sees whether all is well again when the faults are over.
func (f *deployment) aftermath() {
	began := time.Now()
	// A lease of a dead process has to run out, and a process that lost its own one pauses for up to 5 s. Each deletion
	// that etcd reports to no watch is found by a look 10 s later.
	bound := 2*(fleetTTL+fleetDelay) + 10*time.Second*time.Duration(len(f.missing))
	for f.leader() == nil && time.Since(began) < time.Minute+bound {
		f.pass(50 * time.Millisecond)
	}
	if f.vacant = time.Since(began); f.vacant > bound {
		f.violation(progress, "nobody leads for %v after the faults", f.vacant)
	}
	f.crowd.Wait()
	f.pass(2*(fleetTTL+fleetDelay) + 10*time.Second*time.Duration(len(f.missing)) + 3*time.Minute) // the last doubt about a request is over
	if f.leader() == nil {
		f.violation(progress, "nobody leads when all is well")
	}
	for _, in := range f.instances {
		for in.present.Load() == nil {
			f.pass(time.Second)
		}
		in.present.Load().dropInherited()
	}
	f.pass(10 * time.Second) // a Locker that waited for what was given up has it, and unlocks
	f.nothingIsKept()
	f.rest()
	for _, in := range f.instances {
		p := in.present.Load()
		if p.session.Err() != nil {
			f.violation(progress, "the session of %s has ended: %v", p.id, p.session.Err())
			continue
		}
		(&locksmith{process: p, r: rand.New(rand.NewPCG(f.seed, 7)), who: p.id + "/last"}).everything()
	}
}

// closeAll closes what is left, and sees whether anything of it stays.
func (f *deployment) closeAll() {
	var closing sync.WaitGroup
	for _, in := range f.instances {
		closing.Go(in.present.Load().close)
	}
	closing.Wait()
	if err := f.removeLimit(); err != nil {
		f.violation(progress, "the limit cannot be taken back: %v", err)
	}
	for _, kv := range f.Keys("") {
		f.violation(cleanness, "left behind: %q", kv.Key)
	}
	synctest.Wait() // the ends of the last holds are told
	f.traces.Range(func(of, trace any) bool {
		p, l := of.(*process), trace.(*traceLog)
		for _, what := range l.wrong() {
			f.violation(telling, "%s: %s", p.id, what)
		}
		return true
	})
}

// dropInherited gives up what the process has not asked for. Without a lease file the library leaves that to its user.
func (p *process) dropInherited() {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if p.given != clientv3.NoLease {
		if err := p.session.ReleaseAdopted(ctx); err != nil {
			p.violation(progress, "%s cannot give up what it inherited: %v", p.id, err)
		}
	}
	if names, err := p.session.Adopted(ctx); err != nil || len(names) > 0 {
		p.violation(cleanness, "%s has inherited %q, and nobody asks for it: %v", p.id, names, err)
	}
}

// removeLimit takes back the semaphore's limit, which no session has of its own.
func (f *deployment) removeLimit() error {
	s := f.session("tidy", WithTTL(fleetTTL))
	if err := NewSemaphore(s, "sem", fleetLimit).SetLimit(f.ctx, 0); err != nil {
		return err
	}
	return s.Close(f.ctx)
}

// rest lets a minute pass, in which nothing happens, and checks what that takes. Streams of watches are not counted: a
// reproducible run has one for each watch, and clientv3 keeps the stream of a watch that was given up before it was sent, with
// two goroutines for each.
func (f *deployment) rest() {
	sent := map[*process]int{}
	for _, in := range f.instances {
		p := in.present.Load()
		sent[p] = p.client.Count()
	}
	f.pass(time.Minute)
	streams := 0
	for _, in := range f.instances {
		p := in.present.Load()
		open := p.client.Open()
		if p.session.cfg.Hooks.Watches == nil {
			streams += open.Streams - open.Renewals
		}
		if before, known := sent[p]; known {
			p.atRest(float64(p.client.Count()-before), open)
		}
	}
	goroutines := float64(runtime.NumGoroutine()-f.goroutines-2*streams) / fleetInstances
	f.cover.atMost("goroutines of a process", goroutines)
	if goroutines > goroutinesAtRest {
		f.violation(frugality, "each process has %.0f goroutines at rest, and not %d at most", goroutines, goroutinesAtRest)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	f.cover.atMost("MB of stacks", float64(mem.StackInuse>>20))
}

// announcesLeader reports whether a value is that of an announcement of the leader that stands.
func (f *deployment) announcesLeader(value string) bool {
	for _, kv := range f.Keys(wire.Prefix("e")) {
		if value == fmt.Sprintf(`{"key":%q,"rev":%d}`, wire.Tail(string(kv.Key)), kv.CreateRevision) {
			return true
		}
	}
	return false
}

// nothingIsKept checks, when no process has locked or waited for long, that no key stands but those of the election: one for
// each Run.
func (f *deployment) nothingIsKept() {
	runs := map[string]int{}
	marks, _ := wire.SuccessorKeys("e")
	announcements := wire.Side("e", "resigns/")
	for _, kv := range f.Keys("") {
		key := string(kv.Key)
		of, known := f.leaseOf.Load(clientv3.LeaseID(kv.Lease))
		switch {
		case strings.HasPrefix(key, wire.LivenessPrefix) && known && !of.(*process).dead():
		case key == limitKey("sem"):
		case strings.HasPrefix(key, marks) && known && !of.(*process).dead():
		case strings.HasPrefix(key, announcements) && known && !of.(*process).dead() && f.announcesLeader(string(kv.Value)):
		case !strings.HasPrefix(key, wire.Prefix("e")) || !known || of.(*process).dead():
			f.violation(cleanness, "%q of lease %x is renewed, and nobody asked for it", key, kv.Lease)
		default:
			if p := of.(*process); runs[p.id] > 0 {
				f.violation(cleanness, "%s stands in the election %d times: %q", p.id, runs[p.id]+1, key)
			}
			runs[of.(*process).id]++
		}
	}
}

// everything locks everything once, when all is well.
func (w *locksmith) everything() {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	failed := func(what string, err error) {
		if err != nil {
			w.violation(progress, "%s cannot lock %s when all is well again: %v", w.who, what, err)
		}
	}
	for _, name := range []string{"m", "dead/x", "dead/y", "str/0"} {
		l, err := NewMutex(w.session, name, w.options()...).Lock(ctx)
		if failed(name, err); err == nil {
			w.unlock(ctx, l, w.held(name, wire.Exclusive, 0, l.hold, true))
		}
	}
	set, err := NewMultiMutex(w.session, []string{"set/a", "set/b", "set/c"}).Lock(ctx)
	if failed("a set", err); err == nil {
		_ = set.Unlock(ctx)
	}
	wl, err := NewRWMutex(w.session, "rw").Lock(ctx)
	if failed("rw", err); err == nil {
		_ = wl.Unlock(ctx)
	}
	p, err := NewSemaphore(w.session, "sem", fleetLimit).Acquire(ctx, 1)
	if failed("sem", err); err == nil {
		_ = p.Release(ctx)
	}
	if w.session.State() != StateConnected {
		w.violation(progress, "%s is %v when all is well again", w.id, w.session.State())
	}
}
