package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Handover: one holds, another waits, and has waited for a given time when the
// first unlocks. What is measured is the time from the call of Unlock until the other
// one's Lock has returned. Holder and waiter have a client each, and every handover a
// name of its own, so that no watch is older than its waiter.
func handover(ctx context.Context, b *bench) error {
	// Waiters that poll would disturb the others, so they are measured afterwards.
	var quiet, asking []handoverWay
	defer func() {
		for _, w := range slices.Concat(quiet, asking) {
			w.close()
		}
	}()
	floor, err := floorWay(b)
	if err != nil {
		return err
	}
	quiet = append(quiet, floor)
	for _, c := range b.contestants() {
		w, err := lockWay(ctx, b, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.key, err)
		}
		if c.asks {
			asking = append(asking, w)
		} else {
			quiet = append(quiet, w)
		}
	}
	for round := range b.rounds {
		for _, age := range b.ages {
			groups := [][]handoverWay{quiet, asking}
			if b.profile != nil {
				groups = slices.Collect(slices.Chunk(slices.Concat(quiet, asking), 1))
			}
			for _, ways := range groups {
				if len(ways) == 0 {
					continue
				}
				at := spot{Suite: "handover", Nodes: b.nodes, Case: fmt.Sprintf("waiter %v old", age), Contestant: ways[0].contestant}
				err := b.profile.during(ctx, at, func() (int, error) {
					return b.handovers * len(ways), handoverRound(ctx, b, ways, age, round)
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// handoverWay does one handover.
type handoverWay struct {
	contestant string
	do         func(ctx context.Context, name string, age time.Duration, st *stage) (time.Duration, error)
	close      func()
}

func floorWay(b *bench) (handoverWay, error) {
	holder, err := newClient(b.where.Etcd)
	if err != nil {
		return handoverWay{}, err
	}
	waiter, err := newClient(b.where.Etcd)
	if err != nil {
		return handoverWay{}, errors.Join(err, holder.Close())
	}
	return handoverWay{
		contestant: theFloor,
		do: func(ctx context.Context, name string, age time.Duration, st *stage) (time.Duration, error) {
			return deleteUntilEvent(ctx, holder, waiter, name+"/key", age, st)
		},
		close: func() { closeClients(holder, waiter) },
	}, nil
}

func closeClients(clients ...*clientv3.Client) {
	for _, c := range clients {
		_ = c.Close()
	}
}

func lockWay(ctx context.Context, b *bench, c contestant) (handoverWay, error) {
	holder, err := join(ctx, c, b.where)
	if err != nil {
		return handoverWay{}, err
	}
	waiter, err := join(ctx, c, b.where)
	if err != nil {
		holder.close()
		return handoverWay{}, err
	}
	return handoverWay{
		contestant: c.key,
		do: func(ctx context.Context, name string, age time.Duration, st *stage) (time.Duration, error) {
			return lockHandover(ctx, holder.mutex(name), waiter.mutex(name), age, st)
		},
		close: func() { waiter.close(); holder.close() },
	}, nil
}

func lockHandover(ctx context.Context, holder, waiter mutex, age time.Duration, st *stage) (time.Duration, error) {
	held, err := holder.lock(ctx)
	if err != nil {
		return 0, err
	}
	heard := make(chan time.Time, 1)
	released := make(chan error, 1)
	began := time.Now()
	go func() {
		next, err := waiter.lock(ctx)
		heard <- time.Now()
		if err == nil {
			err = next.unlock(ctx)
		}
		released <- err
	}()
	took, err := st.handover(ctx, began.Add(age), heard, func() error { return held.unlock(ctx) })
	return took, errors.Join(err, <-released)
}

// handoverRound does the handovers of one age and one round, with the ways in turns. Old
// waiters wait in parallel lanes, to save time. The stage lets only one lane hand over at a
// time.
func handoverRound(ctx context.Context, b *bench, ways []handoverWay, age time.Duration, round int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		next  int
		took  = map[string][]float64{}
		total = b.handovers * len(ways)
		lanes sync.WaitGroup
		st    stage
	)
	for range min(max(1, int(age/laneSpacing)), maxLanes) {
		lanes.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= total {
					return
				}
				w := ways[(i+i/len(ways))%len(ways)] // not always after the same other one
				d, err := w.do(ctx, b.name("handover/%s/%v/%d/%d", w.contestant, age, round, i), age, &st)
				if err != nil {
					cancel(fmt.Errorf("%s: %w", w.contestant, err))
					return
				}
				mu.Lock()
				took[w.contestant] = append(took[w.contestant], micros(d))
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, w := range ways {
		at := spot{"handover", b.nodes, fmt.Sprintf("waiter %v old", age), w.contestant, "p50"}
		b.book.add(at, "µs", low, median(took[w.contestant]))
		at.Metric = "p99"
		b.book.add(at, "µs", low, quantile(took[w.contestant], 0.99))
	}
	return nil
}

const (
	laneSpacing = 15 * time.Millisecond
	maxLanes    = 16
)

// stage lets one lane at a time hand over.
type stage struct{ mu sync.Mutex }

// aside is for how long a lane keeps the stage. A waiter that is notified later waits outside of it.
const aside = 8 * time.Millisecond

// handover waits until it is due, calls unlock, and returns the time from then until
// the other one heard of it.
func (st *stage) handover(ctx context.Context, due time.Time, heard <-chan time.Time, unlock func() error) (time.Duration, error) {
	time.Sleep(time.Until(due))
	st.mu.Lock()
	leave := sync.OnceFunc(st.mu.Unlock)
	late := time.AfterFunc(aside, leave)
	defer late.Stop()
	defer leave()

	unlocked := make(chan error, 1)
	began := time.Now()
	go func() { unlocked <- unlock() }()
	select {
	case at := <-heard:
		return at.Sub(began), <-unlocked
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
