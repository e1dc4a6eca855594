package mixed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/test/internal/env"
)

// fleet is contenders of both sides on one name, with random operations and faults.
type fleet struct {
	w       *world
	name    string
	referee *referee
	pick    func() *rand.Rand // each goroutine has its own
	left    atomic.Int64      // operations to do

	ops, granted, triedInVain, gaveUp, died, revoked, cuts, failed atomic.Int64
}

// operations is how many a fleet does; a process for each takes longer.
func operations(t *testing.T, kinds ...kind) int64 {
	n := int64(env.Number(t, "ETCDLOCK_MIXED_OPS", 60))
	for _, k := range kinds {
		if k.slow {
			return n / 2
		}
	}
	return n
}

func newFleet(w *world, name string, ops int64) *fleet {
	seed := env.Number(w.t, "ETCDLOCK_MIXED_SEED", rand.Uint64N(1e6))
	w.t.Logf("ETCDLOCK_MIXED_SEED=%d", seed)
	w.crowd = true
	f := &fleet{w: w, name: name, referee: w.referee(name)}
	var n atomic.Uint64
	f.pick = func() *rand.Rand { return rand.New(rand.NewPCG(seed, n.Add(1))) }
	f.left.Store(ops)
	return f
}

// member lets a contender do operations until all are done. k is nil for ours.
func (f *fleet) member(c contender, k *kind, r *rand.Rand) {
	for f.left.Add(-1) >= 0 {
		f.ops.Add(1)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		h, err := f.acquire(c, k, r)
		if err != nil {
			f.note(err)
			continue
		}
		f.granted.Add(1)
		end := f.referee.begin(h, k)
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		if h.proclaim != nil && r.IntN(2) == 0 {
			if err := h.proclaim(f.w.ctx(), fmt.Sprint("proclaimed by ", h.key)); err != nil {
				f.note(err)
			}
		}
		if r.IntN(25) == 0 {
			f.die(c, h, end)
			continue
		}
		end()
		if err := h.release(f.w.ctx()); err != nil {
			f.note(err)
		}
	}
}

// acquire is now and then a try, or given up soon.
func (f *fleet) acquire(c contender, k *kind, r *rand.Rand) (*hold, error) {
	if o, ok := c.(*ours); ok && r.IntN(6) == 0 {
		h, err := o.try(f.w.ctx())
		if !errors.Is(err, errNotTaken) {
			return h, err
		}
	}
	if r.IntN(8) > 0 {
		return c.acquire(f.w.ctx())
	}
	patience := time.Duration(r.IntN(8000)) * time.Microsecond
	if k != nil && k.slow {
		patience += 30 * time.Millisecond // else it is not even in line
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := c.acquire(ctx)
	if err != nil && ctx.Err() != nil {
		f.gaveUp.Add(1)
	}
	return h, err
}

// note counts what became of an operation that failed. What the faults bring about is
// expected; that the library says so in its own terms is for other tests.
func (f *fleet) note(err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded): // of a wait in line, which is ErrLocked too
	case errors.Is(err, etcdlock.ErrLocked):
		f.triedInVain.Add(1)
	default:
		f.failed.Add(1)
	}
}

// die ends a holder without a release. An operator then revokes its lease.
func (f *fleet) die(c contender, h *hold, end func()) {
	f.died.Add(1)
	end()
	c.die()
	time.Sleep(20 * time.Millisecond) // it lies there for a while
	f.referee.hurts(h.lease)
	_, _ = f.w.admin.Revoke(f.w.ctx(), h.lease) // it may be gone
}

// harm revokes leases of those in line, and disturbs our connections, until done.
func (f *fleet) harm(done <-chan struct{}, proxies []*faultproxy.Proxy, r *rand.Rand) {
	for {
		select {
		case <-done:
			for _, p := range proxies {
				p.Resume()
			}
			return
		case <-time.After(time.Duration(30+r.IntN(100)) * time.Millisecond):
		}
		switch p := proxies[r.IntN(len(proxies))]; r.IntN(4) {
		case 0:
			f.cuts.Add(1)
			p.Drop()
		case 1:
			f.cuts.Add(1)
			p.Hold()
			time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
			if r.IntN(2) == 0 {
				p.Drop() // what was on the way is lost
			}
			p.Resume()
		default:
			resp, err := f.w.admin.Get(f.w.ctx(), f.name+"/", clientv3.WithPrefix())
			if err != nil || len(resp.Kvs) == 0 {
				continue
			}
			f.revoked.Add(1)
			id := clientv3.LeaseID(resp.Kvs[r.IntN(len(resp.Kvs))].Lease)
			f.referee.hurts(id)
			_, _ = f.w.admin.Revoke(f.w.ctx(), id)
		}
	}
}

// run lets all members work, under faults, and returns what the referee says.
func (f *fleet) run(of []kind, election bool) verdict {
	w := f.w
	var members, weather sync.WaitGroup
	var proxies []*faultproxy.Proxy
	for i := range 2 {
		c, p := w.proxied()
		proxies = append(proxies, p)
		var o *ours
		if election {
			o = newOurElection(w, c, f.name, fmt.Sprint("ours ", i))
		} else {
			o = newOurMutex(w, c, f.name, etcdlock.WithTimeSlice(time.Duration(i)*5*time.Millisecond))
		}
		// Two goroutines of one session in the one with a time slice; each dies for itself.
		for range 1 + i {
			mate := *o
			r := f.pick()
			if i == 1 && !election {
				members.Go(func() { f.member(deathless{&mate}, nil, r) })
			} else {
				members.Go(func() { f.member(&mate, nil, r) })
			}
			if election {
				break
			}
		}
	}
	for _, k := range of {
		for i := range 2 {
			var c contender
			if election {
				c = k.elect(w, f.name, fmt.Sprint(k.name, " ", i))
			} else {
				c = k.lock(w, f.name)
			}
			r := f.pick()
			members.Go(func() { f.member(c, &k, r) })
		}
	}
	var told []etcdlock.Leader
	watching, leave := context.WithCancel(context.Background())
	defer leave()
	if election {
		onlooker := etcdlock.NewElection(w.session(w.client()), f.name)
		weather.Go(func() { told = collect(watching, onlooker) })
	}
	done := make(chan struct{})
	r := f.pick()
	weather.Go(func() { f.harm(done, proxies, r) })
	members.Wait()
	close(done)
	f.referee.close()
	leave()
	weather.Wait()
	v := f.referee.verdict()
	if election {
		v.violations = append(v.violations, f.referee.observed(told)...)
		require.NotEmpty(w.t, told)
	}
	return v
}

// collect is what an observer tells until ctx ends.
func collect(ctx context.Context, e *etcdlock.Election) (told []etcdlock.Leader) {
	for leader, err := range e.Observe(ctx) {
		if err == nil {
			told = append(told, leader)
		}
	}
	return told
}

// deathless is a session with several goroutines, which the death of one must not end.
type deathless struct{ *ours }

func (d deathless) die() {}

// table is what all fleets came to.
type table struct {
	rows                   []string
	operations, violations int64
}

func (sum *table) print(t *testing.T) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "etcdlock x\t\toperations\tgrants\tin vain\tgiven up\tdied\trevoked\tcuts\tviolations\tkeyless theirs")
	for _, row := range sum.rows {
		fmt.Fprintln(tw, row)
	}
	tw.Flush()
	p, err := programs()
	require.NoError(t, err)
	t.Logf("on etcd %s\n%sfleets: %d operations, %d violations", p.Version, b.String(), sum.operations, sum.violations)
}

func (f *fleet) report(sum *table, with, what string, v verdict) {
	f.w.t.Helper()
	sum.operations += f.ops.Load()
	sum.violations += int64(len(v.violations))
	sum.rows = append(sum.rows, fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", with, what, f.ops.Load(), v.holds,
		f.triedInVain.Load(), f.gaveUp.Load(), f.died.Load(), f.revoked.Load(), f.cuts.Load(), len(v.violations), v.believed))
	for _, violation := range v.violations {
		assert.Fail(f.w.t, "violation", violation)
	}
	// A fleet in which nothing was held has shown nothing.
	require.Greater(f.w.t, int64(v.holds), f.ops.Load()/4)
}

// The fleets: each library beside ours on a name of a lock and on one of an election,
// then all of them together.
func TestFleets(t *testing.T) {
	var sum table
	defer sum.print(t)
	for _, what := range []string{"lock", "election"} {
		run := func(with string, of ...kind) {
			t.Run(strings.ReplaceAll(with, "/", " and ")+" "+what, func(t *testing.T) {
				w := newWorld(t)
				f := newFleet(w, w.name("q"), operations(t, of...))
				f.report(&sum, with, what, f.run(of, what == "election"))
			})
		}
		for _, k := range foreign {
			run(k.name, k)
		}
		run("all of them", foreign...)
	}
}
