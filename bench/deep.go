package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// deep measures the time to enter the queue, from the call of Lock until the write that
// enters is answered, for an empty queue and behind thousands. A listener on the client's
// connection sees the answer.
func deep(ctx context.Context, b *bench) error {
	client, err := newClient(b.where.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()

	for round := range b.rounds {
		for _, depth := range []int{0, b.queue} {
			if err := deepRound(ctx, b, client, depth, round); err != nil {
				return fmt.Errorf("behind %d: %w", depth, err)
			}
		}
	}
	return nil
}

func deepRound(ctx context.Context, b *bench, client *clientv3.Client, depth, round int) error {
	list := b.onEtcdOnly()
	var lines []*entrant
	for _, c := range list {
		name := b.name("deep/%s/%d/%d", c.key, depth, round)
		if depth > 0 {
			lease, err := fillQueue(ctx, client, name, depth)
			defer revoke(client, lease) //nolint:revive // when the round is over
			if err != nil {
				return err
			}
		}
		e, err := newEntrant(ctx, b, c, name)
		if err != nil {
			return err
		}
		defer e.close() //nolint:revive // when the round is over
		lines = append(lines, e)
	}
	var spots []spot
	for _, c := range list {
		spots = append(spots, spot{Suite: "deep", Nodes: b.nodes, Case: depthName(depth), Contestant: c.key})
	}
	times := b.entries
	if b.profile != nil && depth == 0 {
		times *= 10 // they are short
	}
	err := b.inTurns(ctx, times, spots, func(i, _ int) error { return lines[i].enter(ctx, client, depth) })
	if err != nil {
		return err
	}
	for i, e := range lines {
		at := spot{"deep", b.nodes, depthName(depth), list[i].key, inLine}
		b.book.add(at, "µs", low, median(e.entered))
		at.Metric = "waiting"
		b.book.add(at, "µs", low, median(e.settled))
	}
	return nil
}

const inLine = "in line"

func depthName(n int) string { return fmt.Sprintf("behind %d", n) }

// entrant enters the queue repeatedly.
type entrant struct {
	*member
	name    string
	tap     *tap
	entered []float64 // the write is answered
	settled []float64 // whatever it asks for then is answered too
}

func newEntrant(ctx context.Context, b *bench, c contestant, name string) (*entrant, error) {
	t := &tap{}
	client, err := newClient(b.where.Etcd, t.options()...)
	if err != nil {
		return nil, err
	}
	l, err := c.dial(ctx, b.where)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	tapped := &etcdLink{client, l.(*etcdLink).make}
	l.close()
	s, err := tapped.session(ctx, sessionTTL)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &entrant{member: &member{s, tapped}, name: name, tap: t}, nil
}

// quiet is how long no answer means that a waiter has settled.
const quiet = 6 * time.Millisecond

// enter enters the queue once, and leaves it.
func (e *entrant) enter(ctx context.Context, client *clientv3.Client, depth int) error {
	waits, stop := context.WithCancel(ctx)
	defer stop()
	mu := e.mutex(e.name)
	e.tap.reset()
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		h, err := mu.lock(waits)
		if err == nil {
			err = h.unlock(ctx)
		} else if waits.Err() != nil {
			err = nil
		}
		ended <- err
	}()
	var entered, last time.Time
	for entered.IsZero() || depth > 0 && time.Since(last) < quiet {
		select {
		case err := <-ended:
			if depth > 0 || err != nil {
				return errors.Join(err, errors.New("got in past the line"))
			}
			entered, _ = e.tap.answered()
			e.entered = append(e.entered, micros(entered.Sub(began)))
			e.settled = append(e.settled, micros(entered.Sub(began)))
			return nil
		case <-time.After(200 * time.Microsecond):
		}
		if depth > 0 {
			entered, last = e.tap.answered()
		}
	}
	e.entered = append(e.entered, micros(entered.Sub(began)))
	e.settled = append(e.settled, micros(last.Sub(began)))
	stop()
	if err := <-ended; err != nil {
		return err
	}
	return e.gone(ctx, client)
}

// gone waits until the own key has been taken away.
func (e *entrant) gone(ctx context.Context, client *clientv3.Client) error {
	key := fmt.Sprintf("%s/%x", e.name, e.session.(leased).lease())
	for {
		r, err := client.Get(ctx, key, clientv3.WithCountOnly())
		if err != nil || r.Count == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// fillQueue writes n entries, each as a contender would, under a lease of their own.
func fillQueue(ctx context.Context, client *clientv3.Client, name string, n int) (clientv3.LeaseID, error) {
	lease, err := client.Grant(ctx, 600)
	if err != nil {
		return 0, err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(64)
	for i := range n {
		all.Go(func() error {
			// Spread as the IDs of leases are: the own key lies somewhere among them.
			key := fmt.Sprintf("%s/%x", name, uint64(lease.ID)&^0xffffff|uint64(i*16777213/n))
			_, err := client.Put(ctx, key, "", clientv3.WithLease(lease.ID))
			return err
		})
	}
	return lease.ID, all.Wait()
}

func revoke(client *clientv3.Client, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, _ = client.Revoke(ctx, lease)
}
