package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// TestSimulation runs many schedules: several sessions of several processes that
// lock and campaign in virtual time, while a network and an etcd made from the seed
// do the worst they can. A referee checks the guarantees at every change in etcd and
// at every grant.
//
//	ETCDLOCK_SEEDS=2000 go test -run TestSimulation .      this many schedules
//	ETCDLOCK_SEED=17 go test -v -run TestSimulation .      this one, with its transcript
func TestSimulation(t *testing.T) {
	first, count := seeds(t, 200)
	var sum tally
	for seed := first; seed < first+count; seed++ {
		sum.add(schedule(t, seed, false))
		if t.Failed() {
			t.Fatalf("replay this schedule: ETCDLOCK_SEED=%d go test -v -run TestSimulation .", seed)
		}
	}
	t.Logf("%d schedules: %d grants, of them %d in memory, %d faults, %d losses, no two holders, tokens and places strictly growing",
		count, sum.grants, sum.handovers, sum.faults, sum.losses)
	require.Positive(t, sum.grants)
}

// The referee is worth nothing unless it can find what it looks for. A session that
// counts its deadline from the receipt of an answer (as etcd's own does) is caught.
func TestSimulationCatchesASessionThatCountsFromTheReceipt(t *testing.T) {
	countFromReceipt = true
	defer func() { countFromReceipt = false }()
	first, count := seeds(t, 200)
	overlaps, worst := 0, time.Duration(0)
	for seed := first; seed < first+count; seed++ {
		got := schedule(t, seed, true)
		overlaps += min(got.overlaps, 1)
		worst = max(worst, got.worst)
	}
	t.Logf("%d of %d schedules with two holders, for up to %v", overlaps, count, worst)
	require.Positive(t, overlaps)
}

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
	if one := number("ETCDLOCK_SEED", 0); one > 0 {
		return one, 1
	}
	return 1, number("ETCDLOCK_SEEDS", count)
}

// tally is what came of schedules.
type tally struct {
	grants, faults, losses int
	handovers              int // of the grants, those in memory
	overlaps               int
	worst                  time.Duration
}

func (t *tally) add(o tally) {
	t.grants += o.grants
	t.faults += o.faults
	t.losses += o.losses
	t.handovers += o.handovers
}

const (
	simTTL     = 3 * time.Second
	simClients = 3
	simWorkers = 3 // goroutines of one session
	simRounds  = 4
)

// simNames are the names that are locked; the last one is the election's.
var simNames = []string{"m", "n/1", "n/2", "e"}

// simulation is one schedule.
type simulation struct {
	*world
	*referee
	seed uint64
	rand *rand.Rand // of the faults
	late sync.Map   // names of clients that hear late
}

// schedule runs the schedule of a seed. With expectOverlap the referee only counts.
func schedule(t *testing.T, seed uint64, expectOverlap bool) (sum tally) {
	t.Helper()
	simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
		s := &simulation{
			world:   w,
			referee: newReferee(w, expectOverlap),
			seed:    seed,
			rand:    rand.New(rand.NewPCG(seed, 0)),
		}
		sessions := make([]*Session, simClients)
		for i := range sessions {
			// One lane, so that writes travel together as soon as there are two.
			sessions[i] = w.session(fmt.Sprintf("client-%d", i), WithTTL(simTTL),
				sessionOptionFunc(func(c *sessionConfig) { c.lanes = 1 }))
		}
		var work sync.WaitGroup
		for i, session := range sessions {
			for j := range simWorkers {
				work.Go(func() {
					s.work(session, fmt.Sprintf("%d.%d", i, j), rand.New(rand.NewPCG(seed, uint64(1+i*simWorkers+j))))
				})
			}
		}
		stop := make(chan struct{})
		var faults sync.WaitGroup
		faults.Go(func() { s.disturb(stop) })
		work.Wait()
		close(stop)
		faults.Wait()
		s.calm()

		// Nobody waits for ever once the faults have stopped: everyone can lock again,
		// and nothing is left when all have closed.
		for i, session := range sessions {
			for _, name := range simNames {
				ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
				l, err := NewMutex(session, name).Lock(ctx)
				for errors.Is(err, ErrLost) { // by what went wrong before
					l, err = NewMutex(session, name).Lock(ctx)
				}
				cancel()
				if err != nil {
					s.violation("client-%d cannot lock %q when all is well again: %v", i, name, err)
					continue
				}
				s.granted(name, "last", l.Hold)
				s.releasing(l.Hold)
				_ = l.Unlock(w.ctx)
			}
		}
		for i, session := range sessions {
			if err := session.Close(w.ctx); err != nil {
				s.violation("client-%d cannot close when all is well again: %v", i, err)
			}
		}
		for _, kv := range w.Keys("") {
			s.violation("left behind: %s", kv.Key)
		}
		for _, id := range w.Leases() {
			// Only a grant whose answer was lost may be among them.
			s.note("lease %x runs out by itself", int64(id))
		}
		sum = s.report()
	})
	return sum
}

// work is one goroutine of a process: it locks, tries and campaigns.
func (s *simulation) work(session *Session, who string, r *rand.Rand) {
	// Short and long slices, kept keys and strict turns, side by side on one name.
	slice, retention := WithTimeSlice(time.Duration(r.IntN(3))*simTTL), WithRetention(time.Duration(r.IntN(3))*simTTL/2)
	election := NewElection(session, "e")
	for range simRounds {
		s.sleep(r, simTTL/3)
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(4*simTTL))))
		name := simNames[r.IntN(3)*r.IntN(2)] // the first one more often
		mutex := NewMutex(session, name, slice, retention)
		switch r.IntN(10) {
		case 0, 1:
			l, err := mutex.TryLock(ctx)
			if err == nil {
				s.held(name, who, l.Hold, l.Unlock, nil, r)
			}
		case 2, 3, 4:
			t, err := election.Campaign(ctx, who)
			if err == nil {
				s.held("e", who, t.Hold, t.Resign, t.Proclaim, r)
			}
		default:
			l, err := mutex.Lock(ctx)
			if err == nil {
				s.held(name, who, l.Hold, l.Unlock, nil, r)
			}
		}
		cancel()
	}
}

// held is what a worker does while it holds.
func (s *simulation) held(name, who string, h *Hold, release func(context.Context) error,
	proclaim func(context.Context, string) error, r *rand.Rand) {
	s.granted(name, who, h)
	hold := time.NewTimer(time.Duration(r.Int64N(int64(2 * simTTL))))
	defer hold.Stop()
	select {
	case <-h.Done():
		s.over(h)
	case <-hold.C:
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(simTTL))))
	defer cancel()
	if proclaim != nil && r.IntN(2) == 0 {
		_ = proclaim(ctx, who+" again")
	}
	s.releasing(h)
	_ = release(ctx)
}

func (s *simulation) sleep(r *rand.Rand, most time.Duration) {
	time.Sleep(time.Duration(r.Int64N(int64(most))))
}

// disturb makes the faults, until it is told to stop.
func (s *simulation) disturb(stop <-chan struct{}) {
	s.Intercept(s.perturb)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(s.rand.Int64N(int64(simTTL)))):
		}
		s.fault()
	}
}

// perturb delays and loses single requests: a renewal answered late and then
// silence, an enqueue that took effect and was not answered, a delete that arrives
// when everybody has forgotten it.
func (s *simulation) perturb(c simetcd.Call) simetcd.Action {
	r := rand.New(rand.NewPCG(s.seed, uint64(c.N)<<16|uint64(c.Kind)<<8|uint64(c.Client[len(c.Client)-1])))
	if _, late := s.late.Load(c.Client); late {
		return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(simTTL)))}
	}
	switch r.IntN(30) {
	case 0:
		return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(2 * simTTL)))}
	case 1:
		return simetcd.Action{DelayRequest: time.Duration(r.Int64N(int64(2 * simTTL)))}
	case 2:
		return simetcd.Action{DropReply: true}
	case 3:
		return simetcd.Action{DropRequest: true}
	default:
		return simetcd.Action{}
	}
}

// fault lets one thing go wrong.
func (s *simulation) fault() {
	s.faults++
	c := s.Client(fmt.Sprintf("client-%d", s.rand.IntN(simClients)))
	away := time.Duration(s.rand.Int64N(int64(2 * simTTL)))
	switch n := s.rand.IntN(14); n {
	case 0, 1, 2, 3, 4:
		cut := []func(){c.Cut, c.Cut, c.CutRequests, c.CutReplies, c.CutReplies}[n]
		mend := []func(){c.Heal, c.Resume, c.Resume, c.Heal, c.Resume}[n]
		s.note("cut %d of %s for %v", n, c.Name(), away)
		cut()
		time.Sleep(away)
		mend()
		s.note("%s mended", c.Name())
	case 5:
		s.note("reset of %s", c.Name())
		c.Reset()
	case 6:
		s.note("etcd stops for %v", away)
		s.Stop()
		time.Sleep(away)
		s.Start()
		s.note("etcd is back")
	case 7:
		s.note("new raft leader")
		s.NewLeader()
	case 8:
		s.note("compaction")
		s.Compact(0)
	case 9:
		s.note("watches break")
		s.CutWatches()
	case 10:
		s.note("watches are cancelled")
		s.CancelWatches("etcdserver: mvcc: made for a test")
	case 11, 12:
		s.note("%s hears late for %v, and then nothing for %v", c.Name(), away, away)
		s.late.Store(c.Name(), true)
		time.Sleep(away)
		s.late.Delete(c.Name())
		c.Cut()
		time.Sleep(away)
		c.Heal()
		s.note("%s mended", c.Name())
	case 13:
		if kvs := s.Keys(""); len(kvs) > 0 {
			key := string(kvs[s.rand.IntN(len(kvs))].Key)
			s.note("the next deletion of %s is told to nobody", key)
			s.MissDelete(key)
		}
	}
}

// calm ends all faults.
func (s *simulation) calm() {
	s.note("all is well from here")
	s.Intercept(nil)
	s.Start()
	for i := range simClients {
		s.Client(fmt.Sprintf("client-%d", i)).Heal()
	}
	synctest.Wait()
}
