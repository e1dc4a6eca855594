package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// crowd is a set of processes that contend for one name.
type crowd struct {
	processes, callers int
	clients            bool // true if each caller has a client and a session of its own
	work               time.Duration
	patience           time.Duration // at most, of a wait; 0 for no end
	disturbed          bool          // true if there are strangers, and an administrator, see storms
}

func (c crowd) String() string {
	s := fmt.Sprintf("%d processes", c.processes)
	switch {
	case c.processes == 1:
		s = fmt.Sprintf("%d goroutines of 1 process", c.callers)
	case c.clients:
		s = fmt.Sprintf("%d clients in %d processes", c.processes*c.callers, c.processes)
	case c.callers > 1:
		s = fmt.Sprintf("%d processes x %d goroutines", c.processes, c.callers)
	}
	if c.work > 0 {
		s += fmt.Sprintf(", holding for %v", c.work)
	}
	if c.patience > 0 {
		s += fmt.Sprintf(", waiting for up to %v", c.patience)
	}
	if c.disturbed {
		s += ", disturbed"
	}
	return s
}

const (
	perSecond     = "acquisitions a second"
	smallestShare = "smallest share" // of a process, over the mean
)

// few is the number of processes that have the clients of a large crowd.
const few = 4

// processes measures how many times a second a lock changes hands between real OS
// processes that all want it all the time.
//
// The floor is as many handovers a second as etcd allows, one after the other: Delete until the event.
//
// With two callers in each process and strict turns, a caller waits at each release. So a release and the
// next entry of the process are one write in a long queue.
func processes(ctx context.Context, b *bench) error {
	var crowds, twos []crowd
	for _, n := range b.crowds {
		crowds = append(crowds, crowd{processes: n, callers: 1})
		twos = append(twos, crowd{processes: n, callers: 2})
	}
	if b.everything {
		// Work under the lock gives the referee more to see.
		crowds = append(crowds, crowd{processes: 8, callers: 1, work: time.Millisecond})
	}
	floor, err := floorWay(b)
	if err != nil {
		return err
	}
	defer floor.close()
	if err := contend(ctx, b, "processes", crowds, b.contestants(), &floor); err != nil {
		return err
	}
	if err := contend(ctx, b, "processes", twos, variants()[:1], &floor); err != nil || b.clients == 0 {
		return err
	}
	large := crowd{processes: few, callers: b.clients / few, clients: true}
	return contend(ctx, b, "processes", []crowd{large}, b.onEtcdOnly(), &floor)
}

// goroutines is the same with many callers in a process. etcd's own Mutex needs a
// session for each of them.
func goroutines(ctx context.Context, b *bench) error {
	list := b.contestants()
	if b.everything {
		list = slices.Concat(list, variants())
	}
	return contend(ctx, b, "goroutines", []crowd{{processes: 1, callers: 100}, {processes: 4, callers: 25}}, list, nil)
}

// floorHandovers is how many handovers the floor is the median of.
const floorHandovers = 60

// contend has each crowd contend with each library in each round. Without a floor none is measured.
func contend(ctx context.Context, b *bench, suite string, crowds []crowd, list []contestant, floor *handoverWay) error {
	for round := range b.rounds {
		for _, who := range crowds {
			if floor != nil && who.work == 0 {
				least, err := leastHandover(ctx, *floor, b.name("%s/floor/%v/%d", suite, who, round), floorHandovers)
				if err != nil {
					return err
				}
				b.book.add(spot{suite, b.nodes, who.String(), theFloor, perSecond}, "1/s", high, 1e6/least)
			}
			for i := range list {
				c := list[(i+round)%len(list)]
				if err := contention(ctx, b, suite, who, c, round); err != nil {
					return fmt.Errorf("%v: %w", who, err)
				}
			}
		}
	}
	return nil
}

// contention has one crowd contend with one library.
func contention(ctx context.Context, b *bench, suite string, who crowd, c contestant, round int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := order{
		Contestant: c.key,
		Where:      b.where,
		Name:       b.name("%s/%s/%v/%d", suite, c.key, who, round),
		Callers:    who.callers,
		OwnClients: who.clients,
		Work:       who.work,
		Patience:   who.patience,
		Stranger:   who.disturbed,
	}
	if who.patience > 0 {
		o.Visits = visits
	}
	at := spot{suite, b.nodes, who.String(), c.key, perSecond}
	replies, o, slow, err := b.observed(ctx, who, o, at)
	if err != nil {
		return err
	}
	var (
		stays  []stay
		counts []float64
		blur   time.Duration
	)
	for i, r := range replies {
		if stays, err = readStays(stays, fmt.Sprintf("%s-%d", o.File, i)); err != nil {
			return err
		}
		counts = append(counts, float64(r.Count))
		blur = max(blur, r.Blur)
	}
	b.checks.add(fmt.Sprintf("%s, %d nodes, %v", c.key, b.nodes, who), judge(stays, 2*blur, c.tokens))

	b.book.add(at, "1/s", high, float64(len(stays))/b.span.Seconds())
	if who.patience > 0 {
		at.Metric = longestPause
		b.book.add(at, "ms", low, micros(pause(stays, o.From, o.Until))/1e3)
		at.Metric = longestAnswer
		b.book.add(at, "ms", low, micros(slow)/1e3)
	}
	if who.processes > 1 {
		at.Metric = smallestShare
		b.book.add(at, "of the mean", high, slices.Min(counts)*float64(who.processes)/float64(max(1, len(stays))))
	}
	return nil
}

// observed has a crowd contend, with an observer if it is a storm. slow is what the observer has seen.
func (b *bench) observed(ctx context.Context, who crowd, o order, at spot) (replies []reply, _ order, slow time.Duration, err error) {
	file := filepath.Join(b.dir, "stays")
	if who.patience == 0 {
		replies, o, err = b.contend(ctx, who.processes, o, at, file)
		return replies, o, 0, err
	}
	client, err := newClient(b.where.Etcd)
	if err != nil {
		return nil, o, 0, err
	}
	defer client.Close()
	beside := observer{client: client, queue: o.Name, evicts: who.disturbed}
	observing, stop := context.WithCancel(ctx)
	defer stop()
	var observed errgroup.Group
	observed.Go(func() error { return beside.observe(observing) })
	replies, o, err = b.contend(ctx, who.processes, o, at, file)
	stop()
	err = errors.Join(err, observed.Wait())
	return replies, o, beside.slow, err
}

// warming is the time in which hundreds of clients enter the queue at once, and few leave it.
const warming = 3 * time.Second

// contend opens n workers for a contention, lets it last for the plan's span, and closes
// them. It returns the order as it was given.
func (b *bench) contend(ctx context.Context, n int, o order, at spot, file string) ([]reply, order, error) {
	o.Do = doOpen
	if _, err := b.crew.tell(n, o); err != nil {
		return nil, o, err
	}
	o.Do = doRun
	o.File = file
	if o.OwnNames {
		o.File = ""
	}
	o.From = clock.now() + int64(20*time.Millisecond) + int64(n)*int64(500*time.Microsecond)
	if o.OwnClients && o.Patience == 0 {
		o.Warm = warming
		o.From += int64(warming)
	}
	o.Until = o.From + int64(b.span)
	replies, err := b.profile.crowd(ctx, at, o, func(o order) ([]reply, error) { return b.crew.tell(n, o) })
	if err != nil {
		return nil, o, err
	}
	closing := order{Do: doClose, Contestant: o.Contestant}
	_, err = b.crew.tell(n, closing)
	return replies, o, err
}
