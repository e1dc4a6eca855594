package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// TestElectionsInFoulWeather runs services with priorities and takeovers, which hand over to each other, resign and work
// on for a while when they are told to stop, under the faults of TestSimulation. No two work at one time, tokens grow,
// a process leads within a TTL and 2 s when the faults are over (and 10 s for
// each deletion that etcd still reports to no watch), the highest one in the end, and nothing is left behind.
//
//	ETCDLOCK_SEEDS=5000 go test -v -run TestElectionsInFoulWeather .
func TestElectionsInFoulWeather(t *testing.T) {
	first, count := seeds(t, 120)
	var sum cabinetTally
	for seed := first; seed < first+count; seed++ {
		c := govern(t, seed, nil)
		sum.add(c)
		if count == 1 {
			t.Logf("the transcript of schedule %d:\n%s", seed, strings.Join(c.transcript, "\n"))
		}
		p := &played{referee: c.referee, seed: seed, test: t.Name()}
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Logf("%d schedules: %d terms, %d lost, %d transfers (%d confirmed), %d takeovers, %d faults; a leader at the latest %v after them",
		count, sum.grants, sum.losses, sum.transfers, sum.confirmed, sum.takeovers, sum.faults, sum.vacant)
	require.Positive(t, sum.grants)
	if count >= 100 {
		require.Positive(t, sum.confirmed)
		require.Positive(t, sum.takeovers)
	}
}

type cabinetTally struct {
	grants, losses, transfers, confirmed, takeovers, faults int
	vacant                                                  time.Duration
}

func (t *cabinetTally) add(c *cabinet) {
	t.grants += c.tally.grants
	t.losses += c.tally.losses
	t.faults += c.tally.sum()
	t.transfers += int(c.transfers.Load())
	t.confirmed += int(c.confirmed.Load())
	t.takeovers += int(c.takeovers.Load())
	t.vacant = max(t.vacant, c.vacant)
}

const ministers = 5

// cabinet is one schedule.
type cabinet struct {
	*simulation
	calmed                          atomic.Bool // true when no leader goes by itself any more
	run                             []RunOption
	transfers, confirmed, takeovers atomic.Int64
	vacant                          time.Duration // after the faults, until a process led
	atWork                          map[int]*refereed
	mutex                           sync.Mutex // of atWork
}

// govern plays one schedule. beside runs beside the services, until its context ends; it may be nil.
func govern(t *testing.T, seed uint64, beside func(ctx context.Context, c *cabinet), opts ...RunOption) *cabinet {
	t.Helper()
	var c *cabinet
	simulateWith(t, simetcd.Config{Seed: seed, Reproducible: true}, func(w *world) {
		s := &simulation{
			world: w, referee: newReferee(w), seed: seed,
			rand: rand.New(rand.NewPCG(seed, 0)), clocks: make(map[string]*atomic.Int64),
		}
		s.tally = newTally()
		s.weather = newWeather(s.rand)
		for i := range simClients {
			s.clocks[clientName(i)] = new(atomic.Int64)
		}
		c = &cabinet{simulation: s, atWork: map[int]*refereed{}, run: opts}
		c.play(beside)
	})
	return c
}

func (c *cabinet) play(beside func(context.Context, *cabinet)) {
	r := rand.New(rand.NewPCG(c.seed, 1))
	var services sync.WaitGroup
	ctx, stop := context.WithCancel(c.ctx)
	highest := 0
	for i := range ministers {
		name := clientName(i)
		now := bubbleClock()
		session := c.session(name, WithTTL(simTTL), sessionOptionFunc(func(cfg *sessionConfig) { cfg.Hooks.Slots = 1; cfg.Hooks.Pace = c.pace }), lineLength(c.seed),
			withClock(func() time.Duration { return now() + time.Duration(c.clocks[name].Load()) }))
		for range simWorkers { // as sleepOf counts
			c.parties = append(c.parties, ours{session})
		}
		priority := r.IntN(3)
		highest = max(highest, priority)
		e := NewElection(session, "e", WithPriority(priority), WithTakeover(time.Duration(r.Int64N(int64(2*simTTL)))))
		rnd := rand.New(rand.NewPCG(c.seed, uint64(10+i)))
		services.Go(func() {
			for ctx.Err() == nil {
				err := e.Run(ctx, minister(i), func(ctx context.Context, term *Term) error { return c.work(ctx, i, term, rnd) }, c.run...)
				if ctx.Err() == nil {
					c.violation(progress, "the Run of %d ends: %v", i, err)
					return
				}
			}
		})
	}
	quiet := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() { c.disturb(quiet) })
	c.pass(time.Microsecond)
	c.Intercept(func(call simetcd.Call) simetcd.Action {
		if call.Kind == simetcd.Watch {
			return simetcd.Action{} // of a stream nothing is lost alone; such a watch would be silent until the next look
		}
		return c.perturb(call)
	})
	if beside != nil {
		asking, enough := context.WithCancel(c.ctx)
		defer enough()
		trouble.Go(func() { beside(asking, c) })
		time.AfterFunc(15*simTTL, enough)
	}
	c.sleep(15*simTTL, r)
	close(quiet)
	trouble.Wait()
	c.calmed.Store(true)
	c.calm()

	began := time.Now()
	for c.leading() == nil && time.Since(began) < time.Minute {
		c.pass(50 * time.Millisecond)
	}
	bound := simTTL + 2*time.Second
	// Each deletion that etcd reports to no watch, even now, is found by a read.
	bound += time.Duration(len(c.missing)) * 10 * time.Second
	if c.vacant = time.Since(began); c.vacant > bound {
		c.violation(progress, "nobody leads for %v after the faults", c.vacant)
	}
	c.pass(10 * simTTL)
	if led := c.leading(); led == nil {
		c.violation(progress, "nobody leads when all is well")
	} else if wire.Priority(led.claim.Key()) < highest && !c.marked(led) {
		c.violation(order, "%s leads, and there is one of priority %d", led.claim.Key(), highest)
	}
	stop()
	services.Wait()
	for _, s := range c.sessions {
		if err := s.Close(c.ctx); err != nil {
			c.violation(progress, "a session cannot close when all is well again: %v", err)
		}
	}
	for _, kv := range c.Keys("") {
		c.violation(cleanness, "left behind: %s", kv.Key)
	}
}

func minister(i int) string { return fmt.Sprintf("minister-%d", i) }

func (c *cabinet) sleep(d time.Duration, r *rand.Rand) {
	time.Sleep(d + time.Duration(r.Int64N(int64(time.Millisecond))))
}

// leading returns the process that works under a term, nil for none.
func (c *cabinet) leading() *refereed {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, o := range c.atWork {
		if o.claim.Err() == nil {
			return o
		}
	}
	return nil
}

// begin and end are called at the beginning and the end of the work of a process. No other process may work then, unless
// an administrator has deleted its key, which it learns only afterwards.
func (c *cabinet) begin(i int, term *Term) {
	h := ourTerm{term}
	c.granted("e", minister(i), h)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for j, o := range c.atWork {
		c.mu.Lock()
		_, theirs := c.evicted[entryOf(o.claim.Key(), o.claim.entry())]
		_, own := c.evicted[entryOf(h.Key(), h.entry())]
		if !theirs && !own && term.Err() == nil {
			c.violationf(exclusion, "%d begins to work while %d does", i, j)
		}
		c.mu.Unlock()
	}
	led := &refereed{name: "e", who: minister(i), claim: h}
	for _, kv := range c.Keys("e/") {
		if wire.Pauses(string(kv.Key)) && kv.CreateRevision < term.Token() && !c.marked(led) {
			c.violation(order, "%d begins to work with token %d, and the election is paused by %s since %d", i, term.Token(), kv.Key, kv.CreateRevision)
		}
	}
	c.atWork[i] = led
}

func (c *cabinet) end(i int) {
	c.mutex.Lock()
	o := c.atWork[i]
	delete(c.atWork, i)
	c.mutex.Unlock()
	if o.claim.over() != nil {
		c.over(o.claim)
	} else {
		c.releasing(o.claim)
	}
}

// work is a term: it goes on until it is told to stop, or goes by itself.
func (c *cabinet) work(ctx context.Context, i int, term *Term, r *rand.Rand) error {
	c.begin(i, term)
	for {
		select {
		case <-ctx.Done():
			cause := context.Cause(ctx)
			c.note("%s is told to stop: %v", minister(i), cause)
			if errors.Is(cause, ErrPreempted) {
				c.takeovers.Add(1)
			}
			if errors.Is(cause, ErrPreempted) || errors.Is(cause, ErrResignRequested) { // it takes its time, and has it
				select {
				case <-time.After(time.Duration(r.Int64N(int64(simTTL)))):
				case <-term.Done():
					if errors.Is(term.Err(), ErrReleased) {
						c.violation(exclusion, "the term of %s was given back while its work goes on", minister(i))
					}
				}
			}
			c.end(i)
			return cause
		case <-time.After(time.Duration(1 + r.Int64N(int64(simTTL)))):
		}
		if c.calmed.Load() {
			continue
		}
		bounded, cancel := context.WithTimeout(c.ctx, time.Duration(1+r.Int64N(int64(2*simTTL))))
		switch r.IntN(4) {
		case 0:
			c.end(i)
			to := minister(r.IntN(ministers))
			c.transfers.Add(1)
			err := term.Transfer(bounded, to)
			c.note("%s hands over to %s: %v", minister(i), to, err)
			if err == nil {
				c.confirmed.Add(1)
			}
			if term.Err() == nil { // no such candidate: it goes anyway
				_ = term.Resign(bounded)
			}
			cancel()
			return nil
		case 1:
			c.end(i)
			_ = term.Resign(bounded)
			cancel()
			return nil
		}
		cancel()
	}
}

// marked tells whether a leader handed over to this one. A leader reads the mark once, so it still
// counts after an administrator has deleted it (schedule 657).
func (c *cabinet) marked(o *refereed) bool {
	from, _ := wire.SuccessorKeys("e")
	for _, kv := range append(c.Keys(from), c.deleted...) {
		if strings.HasPrefix(string(kv.Key), from) && strings.Contains(string(kv.Value), wire.Tail(o.claim.Key())) {
			return true
		}
	}
	return false
}
