package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	sharedTTL     = 3 * time.Second
	sharedClients = 3
	sharedWorkers = 4 // goroutines of one session
	sharedRounds  = 5
	sharedLimit   = 4
)

// TestSharedSimulation runs many schedules of readers and writers, with changes from one to the other,
// and of permits with a changing limit, in virtual time. The seed determines the faults of the network
// and of etcd. It reads ETCDLOCK_SEEDS and
// ETCDLOCK_SEED as TestSimulation does.
func TestSharedSimulation(t *testing.T) {
	first, count := seeds(t, 150)
	grants, together, losses, faults := map[wire.Mode]int{}, 0, 0, 0
	for seed := first; seed < first+count; seed++ {
		r := sharedSchedule(t, seed, sharedCalm)
		for mode, n := range r.grants {
			grants[mode] += n
		}
		together, losses, faults = max(together, r.together), losses+r.losses, faults+r.faults
		if len(r.violations) > 0 {
			t.Fatalf("%d violations, the first: %s\n%s\nreplay this schedule: ETCDLOCK_SEED=%d go test -run TestSharedSimulation .",
				len(r.violations), r.violations[0], strings.Join(r.transcript, "\n"), seed)
		}
	}
	t.Logf("%d schedules: granted %d times to write, %d to read (%d at a time), %d times permits; %d faults, %d losses",
		count, grants[wire.Exclusive], grants[wire.Shared], together, grants[wire.Counted], faults, losses)
	if count > 1 {
		require.Greater(t, together, 3)
		require.Positive(t, grants[wire.Exclusive])
		require.Positive(t, grants[wire.Counted])
	}
}

// In each session several writers wait for so short holds that a release enters again by its transaction, also
// where readers wait beside them.
func TestSharedSimulationOfABriskCrowd(t *testing.T) {
	first, count := seeds(t, 12)
	grants, again := 0, 0
	for seed := first; seed < first+count; seed++ {
		r := sharedSchedule(t, seed, sharedBrisk)
		for _, n := range r.grants {
			grants += n
		}
		again += r.again
		if len(r.violations) > 0 {
			t.Fatalf("%d violations, the first: %s\n%s\nreplay this schedule: ETCDLOCK_SEED=%d go test -run TestSharedSimulationOfABriskCrowd .",
				len(r.violations), r.violations[0], strings.Join(r.transcript, "\n"), seed)
		}
	}
	t.Logf("%d schedules: %d grants, %d of them by an entry of a release", count, grants, again)
	require.Greater(t, again, grants/20)
}

// sharedSimulation is one schedule.
type sharedSimulation struct {
	*world
	*sharedReferee
	seed uint64
	rand *rand.Rand // of the faults
	late sync.Map   // names of clients that hear late
	sharedPace
}

// sharedPace is how much the workers do, and for how long.
type sharedPace struct {
	rounds            int
	rest, hold, slice time.Duration // at most
	brisk             bool          // mostly writers, which are marked, so that some of each session always wait
}

var (
	sharedCalm  = sharedPace{rounds: sharedRounds, rest: sharedTTL / 3, hold: sharedTTL, slice: sharedTTL / 5}
	sharedBrisk = sharedPace{rounds: 60, rest: 10 * time.Millisecond, hold: 20 * time.Millisecond, slice: 10 * time.Millisecond, brisk: true}
)

func sharedSchedule(t *testing.T, seed uint64, pace sharedPace) (r *sharedReferee) {
	t.Helper()
	simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
		s := &sharedSimulation{world: w, sharedReferee: newSharedReferee(w, sharedLimit), seed: seed, rand: rand.New(rand.NewPCG(seed, 7)), sharedPace: pace}
		r = s.sharedReferee
		var sessions []*Session
		for i := range sharedClients {
			sessions = append(sessions, w.session(fmt.Sprintf("client-%d", i), WithTTL(sharedTTL), sessionOptionFunc(func(c *sessionConfig) {
				if pace.brisk {
					c.Hooks.Crowd = []int64{-1, 1}[seed%2]
				}
			})))
		}
		var work sync.WaitGroup
		for i, session := range sessions {
			sem := NewSemaphore(session, "s", sharedLimit) // one value for all goroutines
			for j := range sharedWorkers {
				random := rand.New(rand.NewPCG(seed, uint64(100+i*sharedWorkers+j)))
				work.Go(func() { s.work(session, sem, fmt.Sprintf("%d.%d", i, j), random) })
			}
		}
		work.Go(func() { s.change(NewSemaphore(sessions[0], "s", sharedLimit), rand.New(rand.NewPCG(seed, 8))) })
		stop := make(chan struct{})
		var faults sync.WaitGroup
		faults.Go(func() { s.disturb(stop) })
		work.Wait()
		close(stop)
		faults.Wait()
		s.calm()
		s.finish(sessions)
	})
	return r
}

// finish checks that every waiter is served once the faults have stopped, and that nothing is
// left when all have closed.
func (s *sharedSimulation) finish(sessions []*Session) {
	patient := func(what string, i int, acquire func(context.Context) (*sharedHold, func(context.Context) error, error)) {
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		held, release, err := acquire(ctx)
		for errors.Is(err, ErrLost) { // by what went wrong before
			held, release, err = acquire(ctx)
		}
		if err != nil {
			s.violation("client-%d cannot %s when all is well again: %v", i, what, err)
			return
		}
		s.releasing(held)
		_ = release(ctx)
	}
	if err := NewSemaphore(sessions[0], "s", sharedLimit).SetLimit(s.ctx, sharedLimit); err != nil {
		s.violation("the limit cannot be set when all is well again: %v", err)
	}
	for i, session := range sessions {
		patient("write", i, func(ctx context.Context) (*sharedHold, func(context.Context) error, error) {
			l, err := NewRWMutex(session, "m").Lock(ctx)
			if err != nil {
				return nil, nil, err
			}
			return s.granted("m", "last", wire.Exclusive, 0, l.hold), l.Unlock, nil
		})
		patient("acquire", i, func(ctx context.Context) (*sharedHold, func(context.Context) error, error) {
			p, err := NewSemaphore(session, "s", sharedLimit).Acquire(ctx, sharedLimit)
			if err != nil {
				return nil, nil, err
			}
			return s.granted("s", "last", wire.Counted, sharedLimit, p.hold), p.Release, nil
		})
	}
	if err := NewSemaphore(sessions[0], "s", sharedLimit).SetLimit(s.ctx, 0); err != nil {
		s.violation("the limit cannot be taken back when all is well again: %v", err)
	}
	for i, session := range sessions {
		if err := session.Close(s.ctx); err != nil {
			s.violation("client-%d cannot close when all is well again: %v", i, err)
		}
	}
	for _, kv := range s.Keys("") {
		s.violation("left behind: %q", kv.Key)
	}
}

// work is one goroutine of a process.
func (s *sharedSimulation) work(session *Session, sem *Semaphore, who string, r *rand.Rand) {
	opts := []MutexOption{WithTimeSlice(time.Duration(r.IntN(3)) * s.slice / 2)}
	if kept := time.Duration(r.IntN(2)) * sharedTTL; !s.brisk {
		opts = append(opts, WithRetention(kept))
	}
	m := NewRWMutex(session, "m", opts...)
	for range s.rounds {
		time.Sleep(time.Duration(r.Int64N(int64(s.rest))))
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(4*sharedTTL))))
		n, what := 1+r.IntN(sharedLimit), r.IntN(10)
		if s.brisk && what > 4 {
			what = 1
		}
		switch what {
		case 0:
			if l, err := m.TryLock(ctx); err == nil {
				s.writes(l, who, r)
			}
		case 1, 2:
			if l, err := m.Lock(ctx); err == nil {
				s.writes(l, who, r)
			}
		case 3:
			if l, err := m.TryRLock(ctx); err == nil {
				s.reads(s.granted("m", who, wire.Shared, 0, l.hold), l, who, r)
			}
		case 4, 5, 6:
			if l, err := m.RLock(ctx); err == nil {
				s.reads(s.granted("m", who, wire.Shared, 0, l.hold), l, who, r)
			}
		case 7:
			if p, err := sem.TryAcquire(ctx, n); err == nil {
				s.releases(s.granted("s", who, wire.Counted, n, p.hold), p.Release, r)
			}
		default:
			if p, err := sem.Acquire(ctx, n); err == nil {
				s.releases(s.granted("s", who, wire.Counted, n, p.hold), p.Release, r)
			}
		}
		cancel()
	}
}

// writes is what a writer does: sometimes it goes on as a reader.
func (s *sharedSimulation) writes(l *WriteLock, who string, r *rand.Rand) {
	held := s.granted("m", who, wire.Exclusive, 0, l.hold)
	if strings.HasSuffix(l.Key(), otherMarked) {
		s.enteredAgain()
	}
	if odd := r.IntN(2) == 0; odd || s.brisk && r.IntN(3) > 0 {
		s.releases(held, l.Unlock, r)
		return
	}
	s.stay(held, r)
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(sharedTTL))))
	defer cancel()
	s.releasing(held)
	if rl, err := l.Downgrade(ctx); err == nil {
		s.reads(s.granted("m", who, wire.Shared, 0, rl.hold), rl, who, r)
	}
}

// reads is what a reader does: sometimes it becomes a writer.
func (s *sharedSimulation) reads(held *sharedHold, l *ReadLock, who string, r *rand.Rand) {
	if r.IntN(2) == 0 {
		s.releases(held, l.Unlock, r)
		return
	}
	s.stay(held, r)
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(2*sharedTTL))))
	defer cancel()
	if wl, err := l.Upgrade(ctx); err == nil {
		s.writes(wl, who, r)
		return
	}
	s.releases(held, l.Unlock, r)
}

// releases is the end of a hold.
func (s *sharedSimulation) releases(held *sharedHold, release func(context.Context) error, r *rand.Rand) {
	s.stay(held, r)
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(r.Int64N(int64(sharedTTL))))
	defer cancel()
	s.releasing(held)
	_ = release(ctx)
}

func (s *sharedSimulation) stay(held *sharedHold, r *rand.Rand) {
	hold := time.NewTimer(time.Duration(r.Int64N(int64(s.hold))))
	defer hold.Stop()
	select {
	case <-held.hold.Done():
		s.lost()
	case <-hold.C:
	}
}

// change is an operator that changes the limit.
func (s *sharedSimulation) change(m *Semaphore, r *rand.Rand) {
	for range 6 {
		time.Sleep(time.Duration(r.Int64N(int64(2 * sharedTTL))))
		limit := 1 + r.IntN(2*sharedLimit)
		ctx, cancel := context.WithTimeout(s.ctx, 2*sharedTTL)
		err := m.SetLimit(ctx, limit)
		cancel()
		if err == nil {
			s.confirmed(limit)
		}
	}
}

// disturb makes the faults, until it is told to stop.
func (s *sharedSimulation) disturb(stop <-chan struct{}) {
	s.Intercept(s.perturb)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(s.rand.Int64N(int64(sharedTTL)))):
		}
		s.fault()
	}
}

// perturb delays and loses single requests and answers.
func (s *sharedSimulation) perturb(c simetcd.Call) simetcd.Action {
	r := rand.New(rand.NewPCG(s.seed, uint64(c.N)<<16|uint64(c.Kind)<<8|uint64(c.Client[len(c.Client)-1])))
	if _, late := s.late.Load(c.Client); late {
		return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(sharedTTL)))}
	}
	switch r.IntN(30) {
	case 0:
		return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(2 * sharedTTL)))}
	case 1:
		return simetcd.Action{DelayRequest: time.Duration(r.Int64N(int64(2 * sharedTTL)))}
	case 2:
		return simetcd.Action{DropReply: true}
	case 3:
		return simetcd.Action{DropRequest: true}
	default:
		return simetcd.Action{}
	}
}

// fault lets one thing go wrong.
func (s *sharedSimulation) fault() {
	s.faults++
	c := s.Client(fmt.Sprintf("client-%d", s.rand.IntN(sharedClients)))
	away := time.Duration(s.rand.Int64N(int64(2 * sharedTTL)))
	switch n := s.rand.IntN(12); n {
	case 0, 1, 2, 3:
		cut := []func(){c.Cut, c.CutRequests, c.CutReplies, c.CutReplies}[n]
		mend := []func(){c.Heal, c.Resume, c.Heal, c.Resume}[n]
		s.note("cut %d of %s for %v", n, c.Name(), away)
		cut()
		time.Sleep(away)
		mend()
		s.note("%s mended", c.Name())
	case 4:
		s.note("reset of %s", c.Name())
		c.Reset()
	case 5:
		s.note("etcd stops for %v", away)
		s.Stop()
		time.Sleep(away)
		s.Start()
	case 6:
		s.note("new raft leader")
		s.NewLeader()
	case 7:
		s.note("compaction, and watches break")
		s.Compact(0)
		s.CutWatches()
	case 8:
		s.note("watches are cancelled")
		s.CancelWatches("etcdserver: mvcc: made for a test")
	case 9, 10:
		s.note("%s hears late for %v, and then nothing for %v", c.Name(), away, away)
		s.late.Store(c.Name(), true)
		time.Sleep(away)
		s.late.Delete(c.Name())
		c.Cut()
		time.Sleep(away)
		c.Heal()
	case 11:
		if kvs := s.Keys(""); len(kvs) > 0 {
			key := string(kvs[s.rand.IntN(len(kvs))].Key)
			s.note("the next deletion of %q is told to nobody", key)
			s.MissDelete(key)
		}
	}
}

// calm ends all faults.
func (s *sharedSimulation) calm() {
	s.note("all is well from here")
	s.Intercept(nil)
	s.Start()
	for i := range sharedClients {
		s.Client(fmt.Sprintf("client-%d", i)).Heal()
	}
	synctest.Wait()
}
