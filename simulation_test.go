package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/history"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// TestSimulation runs many schedules: sessions of several processes that lock and
// campaign in virtual time, while a network and an etcd made from the seed do the worst
// they can. A referee checks the promises at every change in etcd and at every grant,
// and the operations of all processes are checked against a model.
//
//	make sim SEEDS=2000      this many schedules, of this library and of etcd's own
//	make sim SEED=17         this one, with its transcript
func TestSimulation(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 120)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, ourParties)
		sum.add(p)
		if count == 1 {
			t.Logf("the transcript of schedule %d:\n%s", seed, strings.Join(p.transcript, "\n"))
		}
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures())
	require.Positive(t, sum.grants)
	if count >= 100 {
		for i, f := range faults {
			require.Positive(t, sum.faults[i], f.name)
		}
	}
}

// The same schedules with etcd's own concurrency package, as a control: a simulation
// that finds nothing there could not find anything here.
func TestSimulationCatchesEtcdsOwnLocks(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 60)
	for seed := first; seed < first+count; seed++ {
		sum.add(play(t, seed, theirParties))
	}
	t.Logf("etcd's own package: two holders in %d of %d schedules (%d grants, %d faults), for up to %v", sum.broken[exclusion],
		sum.schedules, sum.grants, sum.sum(), sum.worst)
	if count >= 60 {
		require.Positive(t, sum.broken[exclusion], "nobody was caught")
	}
}

// The referee is worth nothing unless it can find what it looks for. A session that
// counts its deadline from the receipt of an answer (as etcd's own does) is caught, and
// what is printed then tells what has happened and how to see it again. // trap C4
func TestSimulationTellsOfABrokenRule(t *testing.T) {
	fromReceipt := func(s *simulation) {
		s.ours(func(*simetcd.Client) SessionOption {
			return sessionOptionFunc(func(c *sessionConfig) { c.Hooks.FromReceipt = true })
		})
	}
	for seed := uint64(1); ; seed++ {
		require.Less(t, seed, uint64(500), "nobody was caught")
		p := play(t, seed, fromReceipt)
		i := slices.IndexFunc(p.violations, func(v violation) bool { return v.promise == exclusion })
		if i < 0 {
			continue
		}
		verdict := p.verdict()
		lines := strings.Split(verdict, "\n")
		require.LessOrEqual(t, len(lines), linesBefore+linesAfter+10, "nobody reads that much")
		require.Contains(t, verdict, "VIOLATION: ")
		require.Contains(t, verdict, "FAULT: ")
		require.Contains(t, lines[len(lines)-1], fmt.Sprintf("make sim SEED=%d ", seed))
		require.Equal(t, verdict, play(t, seed, fromReceipt).verdict(), "the same again")
		t.Logf("for example:\n%s", verdict)
		return
	}
}

// seeds says which schedules are played: count of them from the first one on, or as many as
// ETCDLOCK_SEEDS says; with ETCDLOCK_SEED that one only, or ETCDLOCK_SEEDS of them from it on,
// so that several processes can share the work.
func seeds(t *testing.T, count uint64) (first, n uint64) {
	number := func(name string, otherwise uint64) uint64 {
		v := os.Getenv(name)
		if v == "" {
			return otherwise
		}
		u, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err, name)
		return u
	}
	if first = number("ETCDLOCK_SEED", 0); first > 0 {
		return first, number("ETCDLOCK_SEEDS", 1)
	}
	return 1, number("ETCDLOCK_SEEDS", count)
}

// tally is what came of schedules.
type tally struct {
	grants, losses int
	handovers      int           // of the grants, those in memory
	again          int           // of the grants, those by an entry of a release, or that came after a key of unknown outcome
	worst          time.Duration // for which a hold went on without its key
	faults         []int
	operations     int            // in the histories
	schedules      int            // in all
	broken         map[string]int // schedules in which a promise was not kept
}

func newTally() tally { return tally{faults: make([]int, len(faults)), broken: make(map[string]int)} }

func (t *tally) add(p *played) {
	t.schedules++
	t.grants += p.tally.grants
	t.losses += p.tally.losses
	t.handovers += p.tally.handovers
	t.again += p.tally.again
	t.worst = max(t.worst, p.tally.worst)
	t.operations += p.tally.operations
	for i, n := range p.tally.faults {
		t.faults[i] += n
	}
	seen := make(map[string]bool)
	for _, v := range p.violations {
		if !seen[v.promise] {
			t.broken[v.promise]++
			seen[v.promise] = true
		}
	}
}

// sum is how many faults there were.
func (t *tally) sum() (n int) {
	for _, m := range t.faults {
		n += m
	}
	return n
}

// figures tells the tally in a few lines.
func (t *tally) figures() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules: %d grants, of them %d in memory, %d holds lost, %d operations checked against a model, %d faults\n",
		t.schedules, t.grants, t.handovers, t.losses, t.operations, t.sum())
	for i, f := range faults {
		fmt.Fprintf(&b, "  %6d  %s\n", t.faults[i], f.name)
	}
	for _, promise := range []string{exclusion, fencing, order, progress, cleanness, legal} {
		fmt.Fprintf(&b, "  %q: broken in %d schedules\n", promise, t.broken[promise])
	}
	fmt.Fprintf(&b, "  held without a key for %v at worst", t.worst)
	return b.String()
}

const (
	simTTL      = 3 * time.Second
	simClients  = 3 // processes, or machines
	simSessions = 4 // on them
	simWorkers  = 3 // goroutines of one session
	simRounds   = 4
)

// simNames are the names that are locked; the last one is the election's.
var simNames = []string{"m", "n/1", "n/2", "e"}

func clientName(i int) string { return fmt.Sprintf("client-%d", i%simClients) }

// simulation is one schedule.
type simulation struct {
	*world
	*referee
	seed    uint64
	rand    *rand.Rand // of the faults
	weather weather
	late    sync.Map // names of clients that hear late
	clocks  map[string]*atomic.Int64
	missing []string           // keys with a next deletion that no watch is told
	deleted []*mvccpb.KeyValue // by an administrator
	parties []party            // one for each worker
	control bool
	crowd   bool // all lock one name, without retention; unless brisk, without a slice of their own
	brisk   bool // holds and rests are so short that callers of one session always wait
}

// played is what came of one.
type played struct {
	*referee
	seed uint64
	test string
}

// ourParties are the sessions of this library; the workers of one share it.
func ourParties(s *simulation) { s.ours() }

func (s *simulation) ours(opts ...func(*simetcd.Client) SessionOption) {
	sessions := simSessions
	if s.crowd && !s.brisk {
		sessions *= 3
	}
	for i := range sessions {
		name := clientName(i)
		now := bubbleClock()
		// One slot, so that writes share a batch as soon as there are two.
		all := []SessionOption{WithTTL(simTTL), sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Slots = 1; c.Hooks.Pace = s.pace }),
			lineLength(s.seed),
			withClock(func() time.Duration { return now() + time.Duration(s.clocks[name].Load()) })}
		for _, opt := range opts {
			all = append(all, opt(s.Client(name)))
		}
		session := s.session(name, all...)
		for range simWorkers {
			s.parties = append(s.parties, ours{session})
		}
	}
}

// lineLength has half of the schedules behave as if every line were a long one, of which some
// cannot see the end when they come. In half of these, entries are told when it is their turn.
func lineLength(seed uint64) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) {
		if seed%2 == 0 {
			c.Hooks.ShortQueue, c.Hooks.Prefetch = -1, 1+int64(seed/2%4)
		}
		if seed%4 == 0 {
			c.Hooks.Crowd = -1
		}
	})
}

// theirParties are sessions of etcd's own package, one for each worker: two mutexes of
// one session do not exclude each other there. // trap A1
func theirParties(s *simulation) {
	s.control = true
	for i := range simSessions * simWorkers {
		s.parties = append(s.parties, &theirs{client: s.Client(clientName(i / simWorkers)), server: s.Server})
	}
}

// play plays the schedule of a seed.
func play(t *testing.T, seed uint64, parties func(*simulation)) *played {
	t.Helper()
	p := &played{seed: seed, test: t.Name()}
	var ops []history.Op
	simulateWith(t, simetcd.Config{Seed: seed, Reproducible: true}, func(w *world) {
		s := &simulation{
			world: w, referee: newReferee(w), seed: seed,
			rand: rand.New(rand.NewPCG(seed, 0)), clocks: make(map[string]*atomic.Int64),
		}
		p.referee = s.referee
		s.tally = newTally()
		s.weather = newWeather(s.rand)
		for i := range simClients {
			s.clocks[clientName(i)] = new(atomic.Int64)
		}
		parties(s)
		ops = s.run()
	})
	p.tally.operations = len(ops)
	// Outside of the bubble, where time passes.
	if err := history.Check(history.Election, ops, p.evidence); err != nil {
		p.illegal(err)
	}
	return p
}

// run has the workers work and all go wrong, and then sees whether all is well again.
func (s *simulation) run() []history.Op {
	var work, trouble sync.WaitGroup
	records := make([]*history.Recorder, len(s.parties))
	for i, p := range s.parties {
		session, who := strconv.Itoa(i/simWorkers), fmt.Sprintf("%d.%d", i/simWorkers, i%simWorkers)
		if s.control {
			session = who
		}
		records[i] = history.NewRecorder(who, s.now)
		w := &worker{simulation: s, party: p, session: session, who: who, record: records[i], rand: rand.New(rand.NewPCG(s.seed, uint64(1+i)))}
		work.Go(w.work)
	}
	stop := make(chan struct{})
	trouble.Go(func() { s.disturb(stop) })
	if s.control {
		trouble.Go(func() { s.rescue(stop) })
	}
	work.Wait()
	close(stop)
	trouble.Wait()
	s.calm()
	s.aftermath()
	var ops []history.Op
	for _, r := range records {
		ops = append(ops, r.Ops()...)
	}
	return ops
}

// aftermath checks that every waiter is served once the faults have stopped: each process can
// lock again, and nothing is left when all have closed.
func (s *simulation) aftermath() {
	for i, p := range s.parties {
		if i%simWorkers != 0 || s.control {
			continue // of one session
		}
		for _, name := range simNames {
			ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
			l, err := p.lock(ctx, name)
			for errors.Is(err, ErrLost) { // by what went wrong before
				l, err = p.lock(ctx, name)
			}
			cancel()
			if err != nil {
				s.violation(progress, "session %d cannot lock %q when all is well again: %v", i/simWorkers, name, err)
				continue
			}
			s.granted(name, "last", l)
			s.releasing(l)
			_ = l.release(s.ctx)
		}
	}
	for i, p := range s.parties {
		if err := p.close(s.ctx); err != nil {
			s.violation(progress, "session %d cannot close when all is well again: %v", i/simWorkers, err)
		}
	}
	for _, kv := range s.Keys("") {
		s.violation(cleanness, "left behind: %s", kv.Key)
	}
	for _, id := range s.Leases() {
		// Only a grant with a lost answer may be among them.
		s.note("lease %x runs out by itself", int64(id))
	}
}
