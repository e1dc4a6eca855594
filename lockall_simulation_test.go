package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// crossing is a schedule in which 8 processes lock random sets of 6 names, at once and one
// by one, while faults come and go. No process waits without end, and no two hold a name.
type crossing struct {
	*world
	seed  uint64
	rand  *rand.Rand // of the faults
	names []string

	mu     sync.Mutex
	held   map[string][]*crosser
	last   map[string]hold // the last one to be granted
	grants int
}

const crossers = 8

// crosser is one hold.
type crosser struct {
	who       string
	hold      hold
	releasing bool
}

func (h *crosser) over() bool { return h.releasing || h.hold.over() != nil }

// disturb makes faults until it is told to stop.
func (c *crossing) disturb(stop <-chan struct{}) {
	c.Intercept(func(call simetcd.Call) simetcd.Action {
		r := rand.New(rand.NewPCG(c.seed, uint64(call.N)<<16|uint64(call.Kind)<<8|uint64(call.Client[len(call.Client)-1])))
		late := time.Duration(r.Int64N(int64(2 * simTTL)))
		switch r.IntN(30) {
		case 0:
			return simetcd.Action{DelayReply: late}
		case 1:
			return simetcd.Action{DelayRequest: late}
		case 2:
			return simetcd.Action{DropReply: true}
		case 3:
			return simetcd.Action{DropRequest: true}
		default:
			return simetcd.Action{}
		}
	})
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(c.rand.Int64N(int64(simTTL)))):
		}
		client := c.Client(fmt.Sprintf("client-%d", c.rand.IntN(crossers)))
		away := time.Duration(c.rand.Int64N(int64(2 * simTTL)))
		switch c.rand.IntN(9) {
		case 0, 1:
			client.Cut()
			time.Sleep(away)
			client.Heal()
		case 2:
			client.CutReplies()
			time.Sleep(away)
			client.Resume()
		case 3:
			client.CutRequests()
			time.Sleep(away)
			client.Resume()
		case 4:
			client.Reset()
		case 5:
			c.Stop()
			time.Sleep(away)
			c.Start()
		case 6:
			c.NewLeader()
		case 7:
			c.Compact(0)
		case 8:
			c.CutWatches()
		}
	}
}

// calm ends all faults.
func (c *crossing) calm() {
	c.Intercept(nil)
	c.pass(2 * simTTL) // what was lost is known
}

func TestManyLockAllInFoulWeather(t *testing.T) {
	first, count := seeds(t, 150)
	grants := 0
	for seed := first; seed < first+count; seed++ {
		grants += cross(t, seed)
		if t.Failed() {
			t.Fatalf("replay this schedule: ETCDLOCK_SEED=%d go test -v -run TestManyLockAllInFoulWeather .", seed)
		}
	}
	t.Logf("%d schedules: %d grants of sets and of single names, nobody stuck, no two holders", count, grants)
	require.Positive(t, grants)
}

// cross runs one schedule.
func cross(t *testing.T, seed uint64) (grants int) {
	simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
		c := &crossing{
			world: w, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)),
			names: []string{"a", "b", "c", "d", "e", "f"},
			held:  make(map[string][]*crosser), last: make(map[string]hold),
		}
		sessions := make([]*Session, crossers)
		for i := range sessions {
			sessions[i] = w.session(fmt.Sprintf("client-%d", i), WithTTL(simTTL))
		}
		stop := make(chan struct{})
		var work, faults sync.WaitGroup
		faults.Go(func() { c.disturb(stop) })
		for i, s := range sessions {
			work.Go(func() { c.process(s, rand.New(rand.NewPCG(seed, uint64(i+1))), 4) })
		}
		work.Wait()
		close(stop)
		faults.Wait()
		c.calm()
		for i, s := range sessions {
			work.Go(func() { c.inCalm(s, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
		}
		work.Wait()
		for i, s := range sessions {
			if err := s.Close(w.ctx); err != nil {
				c.Errorf("client-%d cannot close: %v", i, err)
			}
		}
		for _, kv := range w.Keys("") {
			c.Errorf("left behind: %s", kv.Key)
		}
		grants = c.grants
	})
	return grants
}

// some is a random set of names, in a random order.
func (c *crossing) some(r *rand.Rand) []string {
	names := make([]string, 0, len(c.names))
	for _, i := range r.Perm(len(c.names))[:1+r.IntN(len(c.names))] {
		names = append(names, c.names[i])
	}
	return names
}

// process locks and unlocks, with a time limit now and then.
func (c *crossing) process(s *Session, r *rand.Rand, rounds int) {
	for range rounds {
		time.Sleep(time.Duration(r.Int64N(int64(simTTL / 2))))
		ctx, cancel := context.WithTimeout(c.ctx, time.Duration(r.Int64N(int64(4*simTTL))))
		names := c.some(r)
		switch r.IntN(6) {
		case 0:
			if set, err := NewMultiMutex(s, names).TryLock(ctx); err == nil {
				c.hold(r, names, set.hold, set.Unlock)
			}
		case 1: // a process that keeps keys, alone
			m := NewMutex(s, names[0], WithRetention(time.Duration(r.Int64N(int64(simTTL)))))
			if l, err := m.Lock(ctx); err == nil {
				c.hold(r, names[:1], l.hold, l.Unlock)
			}
		default:
			if set, err := NewMultiMutex(s, names).Lock(ctx); err == nil {
				c.hold(r, names, set.hold, set.Unlock)
			}
		}
		cancel()
	}
}

// inCalm locks sets when all is well again: each must come to its turn.
func (c *crossing) inCalm(s *Session, r *rand.Rand) {
	for range 3 {
		names := c.some(r)
		began := time.Now()
		ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
		set, err := NewMultiMutex(s, names).Lock(ctx)
		for errors.Is(err, ErrLost) { // by what went wrong before
			set, err = NewMultiMutex(s, names).Lock(ctx)
		}
		cancel()
		if err != nil {
			c.Errorf("%v is stuck after %v: %v", names, time.Since(began), err)
			return
		}
		c.hold(r, names, set.hold, set.Unlock)
	}
}

// hold checks a grant, and holds for a while.
func (c *crossing) hold(r *rand.Rand, names []string, h hold, release func(context.Context) error) {
	own := &crosser{who: fmt.Sprint(names), hold: h}
	c.mu.Lock()
	c.grants++
	if h.over() == nil {
		for _, name := range names {
			var still []*crosser
			for _, o := range c.held[name] {
				if !o.over() {
					c.Errorf("%v holds %s while %v does", names, name, o.who)
					still = append(still, o)
				}
			}
			c.held[name] = append(still, own)
			if last := c.last[name]; last.of != nil && last.of.Entry() != h.of.Entry() && h.Token() <= last.Token() {
				c.Errorf("token %d on %s after %d", h.Token(), name, last.Token())
			}
			c.last[name] = h
		}
	}
	c.mu.Unlock()
	wait := time.NewTimer(time.Duration(r.Int64N(int64(simTTL))))
	defer wait.Stop()
	select {
	case <-h.Done():
	case <-wait.C:
	}
	c.mu.Lock()
	own.releasing = true
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(r.Int64N(int64(simTTL))))
	defer cancel()
	_ = release(ctx)
}
