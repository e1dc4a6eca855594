package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// What a process can rest with.
const (
	restSessions = "a session"
	restLocks    = "a held lock"
	restWaiters  = "a waiter"
)

// resting is what one of them costs, as the difference that many make.
type resting struct {
	Goroutines float64 `json:"goroutines"`
	Heap       float64 `json:"heap"`  // bytes
	Stack      float64 `json:"stack"` // bytes
	Keepalives float64 `json:"keepalives"`
	Streams    float64 `json:"streams"` // of keepalives, that were opened
}

// rest measures what sessions, held locks and waiters cost while nothing happens:
// each in a process of its own, which does nothing else. These processes run at the
// same time: what they count does not depend on how busy the machine is.
func rest(ctx context.Context, b *bench) error {
	list := b.onEtcdOnly()
	if !b.everything {
		list = list[1:] // the targets are about etcdlock
	}
	whats := []string{restSessions, restLocks, restWaiters}
	for range b.rounds {
		var all errgroup.Group
		found := make([]resting, len(list)*len(whats))
		for i := range found {
			all.Go(func() (err error) {
				found[i], err = restingOf(b, list[i/len(whats)], whats[i%len(whats)])
				return err
			})
		}
		if err := errors.Join(all.Wait(), ctx.Err()); err != nil {
			return err
		}
		for i, r := range found {
			r.enter(b, spot{Suite: "rest", Nodes: b.nodes, Case: whats[i%len(whats)], Contestant: list[i/len(whats)].key})
		}
	}
	return nil
}

// restingOf asks a new process.
func restingOf(b *bench, c contestant, what string) (resting, error) {
	h, err := hire(b.crew.kids)
	if err != nil {
		return resting{}, err
	}
	defer h.dismiss()
	r, err := h.tell(order{
		Do: doRest, Contestant: c.key, Where: b.where, Rest: what,
		Name: b.name("rest/%s/%s", c.key, what), Callers: b.atRest, Watch: b.watched,
	})
	return r.Rest, err
}

func (r resting) enter(b *bench, at spot) {
	add := func(metric, unit string, v float64) {
		at.Metric = metric
		b.book.add(at, unit, low, v)
	}
	add("goroutines", "each", r.Goroutines)
	add("heap", "bytes", r.Heap)
	add("stack", "bytes", r.Stack)
	if b.watched > 0 && at.Case == restSessions {
		add("keepalives", "1/s", r.Keepalives)
		add("keepalive streams", "1/s", r.Streams)
	}
}

// rested is the part of the worker.
func rested(ctx context.Context, o order) (resting, error) {
	c, ok := everybody()[o.Contestant]
	if !ok {
		return resting{}, fmt.Errorf("no such contestant: %q", o.Contestant)
	}
	var t tap
	l, err := c.dial(ctx, o.Where)
	if err != nil {
		return resting{}, err
	}
	if etcd, ok := l.(*etcdLink); ok {
		client, err := newClient(o.Where.Etcd, t.options()...)
		if err != nil {
			return resting{}, err
		}
		l.close()
		l = &etcdLink{client, etcd.make}
	}
	defer l.close()
	return restWith(ctx, o, l, &t)
}

func restWith(ctx context.Context, o order, l link, t *tap) (resting, error) {
	const ttl = 6 * time.Second
	n := o.Callers
	// One of each beforehand: what only the first one starts is not what each costs.
	first, err := l.session(ctx, ttl)
	if err != nil {
		return resting{}, err
	}
	defer first.close()
	second, err := l.session(ctx, ttl)
	if err != nil {
		return resting{}, err
	}
	defer second.close()
	name := func(i int) string { return fmt.Sprintf("%s/%d", o.Name, i) }
	held, err := first.mutex(name(-1)).lock(ctx)
	if err != nil {
		return resting{}, err
	}
	waits, stop := context.WithCancel(ctx)
	defer stop()
	var waiters errgroup.Group
	wait := func(i int) {
		waiters.Go(func() error {
			h, err := second.mutex(name(i)).lock(waits)
			if err == nil {
				return errors.Join(errors.New("a waiter got in"), h.unlock(ctx))
			}
			return nil
		})
	}
	wait(-1)
	holds := make([]hold, n)
	lock := func() error {
		var all errgroup.Group
		all.SetLimit(32)
		for i := range n {
			all.Go(func() (err error) {
				holds[i], err = first.mutex(name(i)).lock(ctx)
				return err
			})
		}
		return all.Wait()
	}
	if o.Rest == restWaiters {
		if err := lock(); err != nil {
			return resting{}, err
		}
	}
	settle()
	before := look()
	sessions := make([]session, n)
	callers := 0 // goroutines that are the caller's own
	switch o.Rest {
	case restSessions:
		var all errgroup.Group
		all.SetLimit(32)
		for i := range n {
			all.Go(func() (err error) {
				sessions[i], err = l.session(ctx, ttl)
				return err
			})
		}
		err = all.Wait()
	case restLocks:
		err = lock()
	case restWaiters:
		for i := range n {
			wait(i)
		}
		callers = n
	}
	if err != nil {
		return resting{}, err
	}
	settle()
	after := look()
	per := func(b, a uint64) float64 { return (float64(a) - float64(b)) / float64(n) }
	r := resting{
		Goroutines: float64(after.goroutines-before.goroutines-callers) / float64(n),
		Heap:       per(before.HeapAlloc, after.HeapAlloc),
		Stack:      per(before.StackInuse, after.StackInuse),
	}
	if o.Watch > 0 && o.Rest == restSessions {
		t.reset()
		time.Sleep(o.Watch)
		keepalives, streams := t.renewals()
		r.Keepalives = float64(keepalives) / o.Watch.Seconds() / float64(n)
		r.Streams = float64(streams) / o.Watch.Seconds() / float64(n)
	}
	stop()
	err = waiters.Wait()
	runtime.KeepAlive(holds)
	runtime.KeepAlive(held)
	for _, s := range sessions {
		if s == nil {
			continue
		}
		waiters.Go(func() error { s.close(); return nil })
	}
	return r, errors.Join(err, waiters.Wait())
}

// settle gives what was started the time to come to rest.
func settle() { time.Sleep(700 * time.Millisecond) }

type sight struct {
	runtime.MemStats
	goroutines int
}

func look() sight {
	var s sight
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s.MemStats)
	s.goroutines = runtime.NumGoroutine()
	return s
}
