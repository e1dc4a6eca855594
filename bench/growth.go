package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// growth measures a handover by the number of idle entries behind the clients that hand over. The clients
// have a session each. They have come to the queue some times before, and so know how long it is. When all
// have come for the last time, the idle entries enter. Then each client unlocks as soon as it has
// locked. The time from its call of Unlock until the next Lock has returned is a handover.
func growth(ctx context.Context, b *bench) error {
	client, err := newClient(b.where.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	floor, err := floorWay(b)
	if err != nil {
		return err
	}
	defer floor.close()
	list := b.onEtcdOnly()
	var lines []*lineup
	for _, c := range list {
		l, err := newLineup(ctx, b, c)
		if err != nil {
			return err
		}
		defer l.close() //nolint:revive // after all rounds
		lines = append(lines, l)
	}
	for round := range b.rounds {
		for _, behind := range b.behind {
			at := spot{"growth", b.nodes, behindName(behind), theFloor, "p50"}
			least, err := leastHandover(ctx, floor, b.name("growth/floor/%d/%d", behind, round), lined-1)
			if err != nil {
				return err
			}
			b.book.add(at, "µs", low, least)
			for i := range lines {
				l := lines[(i+round)%len(lines)]
				if err := l.round(ctx, b, client, behind, round); err != nil {
					return fmt.Errorf("%s, %s: %w", l.contestant, at.Case, err)
				}
			}
		}
	}
	return nil
}

func behindName(n int) string { return fmt.Sprintf("%d idle entries behind", n) }

// lined is the number of clients in a lineup.
const lined = 33

// lineup is clients that hand over to one another.
type lineup struct {
	contestant string
	members    []*member
}

func newLineup(ctx context.Context, b *bench, c contestant) (*lineup, error) {
	l := &lineup{contestant: c.key, members: make([]*member, lined)}
	var all errgroup.Group
	all.SetLimit(8)
	for i := range l.members {
		all.Go(func() (err error) {
			l.members[i], err = join(ctx, c, b.where)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lineup) close() {
	var all sync.WaitGroup
	for _, m := range l.members {
		if m != nil {
			all.Go(m.close)
		}
	}
	all.Wait()
}

// settled is the age of the waiters when the first one unlocks: each watches what it waits for.
const settled = 1200 * time.Millisecond

// round has the clients line up, idle entries enter behind them, and the clients hand over.
func (l *lineup) round(ctx context.Context, b *bench, client *clientv3.Client, behind, round int) error {
	at := spot{"growth", b.nodes, behindName(behind), l.contestant, "p50"}
	name := b.name("growth/%s/%d/%d", l.contestant, behind, round)
	t := &turns{start: make(chan struct{}), last: make(chan struct{})}
	all, waits := errgroup.WithContext(ctx)
	begin := sync.OnceFunc(func() { close(t.start) })
	for _, m := range l.members {
		all.Go(func() error { return t.take(waits, m.mutex(name)) })
	}
	lease, err := t.behind(waits, client, name, behind)
	defer revoke(client, lease)
	if err != nil {
		begin()
		return errors.Join(err, all.Wait())
	}
	time.Sleep(settled)
	err = b.profile.during(ctx, at, func() (int, error) {
		begin()
		return lined - 1, all.Wait()
	})
	if err != nil {
		return err
	}
	took := t.handovers()
	b.book.add(at, "µs", low, median(took))
	at.Metric = "p90"
	b.book.add(at, "µs", low, quantile(took, 0.9))
	return nil
}

// behind waits until all clients have come for the last time, and puts idle entries behind them.
func (t *turns) behind(ctx context.Context, client *clientv3.Client, name string, n int) (clientv3.LeaseID, error) {
	select {
	case <-t.last:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for {
		resp, err := client.Get(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return 0, err
		}
		if resp.Count == lined {
			return fillQueue(ctx, client, name, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// timesBefore is how often each client has locked the name before.
const timesBefore = 6

// turns is when each client was granted and unlocked the last time, in their order.
type turns struct {
	start chan struct{} // closed when the first one may unlock
	ready atomic.Int32  // number of clients that have locked the name timesBefore times
	last  chan struct{} // closed when all are ready

	mu   sync.Mutex
	list []turn
}

type turn struct{ granted, unlocked time.Time }

func (t *turns) take(ctx context.Context, m mutex) error {
	for range timesBefore {
		h, err := m.lock(ctx)
		if err != nil {
			return err
		}
		if err := h.unlock(ctx); err != nil {
			return err
		}
	}
	if t.ready.Add(1) == lined {
		close(t.last)
	}
	select {
	case <-t.last: // the first one of the last time waits for all the others
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	h, err := m.lock(ctx)
	if err != nil {
		return err
	}
	granted := time.Now()
	t.mu.Lock()
	i := len(t.list)
	t.list = append(t.list, turn{granted: granted})
	t.mu.Unlock()
	if i == 0 {
		<-t.start
	}
	t.mu.Lock()
	t.list[i].unlocked = time.Now()
	t.mu.Unlock()
	return h.unlock(ctx)
}

// handovers returns how long each handover took, in microseconds.
func (t *turns) handovers() []float64 {
	var took []float64
	for i := 1; i < len(t.list); i++ {
		took = append(took, micros(t.list[i].granted.Sub(t.list[i-1].unlocked)))
	}
	return took
}
