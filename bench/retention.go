package main

import (
	"context"
	"fmt"
	"time"
)

// Cases of the retention suite.
const (
	keptPair       = "a pair, alone"
	stranger       = "the next stranger"
	plainHandover  = "plain handover"
	plainHandoverA = 30 * time.Millisecond // the age of its waiter
)

// retention measures the gain of a kept key for its process, and the cost for the first
// other process. The cost is the time from its call of Lock until it holds. The plain
// handover of etcdlock without retention is measured for comparison.
func retention(ctx context.Context, b *bench) error {
	all := everybody()
	plain := all[theLibrary]
	keeper, err := join(ctx, all[theRetainer], b.where)
	if err != nil {
		return err
	}
	defer keeper.close()
	other, err := join(ctx, plain, b.where)
	if err != nil {
		return err
	}
	defer other.close()
	way, err := lockWay(ctx, b, plain)
	if err != nil {
		return err
	}
	defer way.close()

	for round := range b.rounds {
		var ns float64
		err := b.profile.during(ctx, spot{Suite: "retention", Nodes: b.nodes, Case: keptPair, Contestant: theRetainer}, func() (_ int, err error) {
			ns, err = keptPairs(ctx, keeper.mutex(b.name("retention/kept/%d", round)), b.kept)
			return b.kept, err
		})
		if err != nil {
			return err
		}
		b.book.add(spot{"retention", b.nodes, keptPair, theRetainer, "mean"}, "µs", low, ns/1e3)
		var st stage
		both := []spot{
			{"retention", b.nodes, stranger, theRetainer, "p50"},
			{"retention", b.nodes, plainHandover, theLibrary, "p50"},
		}
		took := make([][]float64, len(both))
		err = b.inTurns(ctx, b.strangers, both, func(who, i int) (err error) {
			var d time.Duration
			if both[who].Case == stranger {
				d, err = strange(ctx, keeper, other, b.name("retention/stranger/%d/%d", round, i))
			} else {
				d, err = way.do(ctx, b.name("retention/plain/%d/%d", round, i), plainHandoverA, &st)
			}
			took[who] = append(took[who], micros(d))
			return err
		})
		if err != nil {
			return err
		}
		for who, at := range both {
			b.book.add(at, "µs", low, median(took[who]))
		}
	}
	return nil
}

// keptPairs returns the nanoseconds of a pair, the mean of n.
func keptPairs(ctx context.Context, mu mutex, n int) (float64, error) {
	pair := func() error {
		h, err := mu.lock(ctx)
		if err != nil {
			return err
		}
		return h.unlock(ctx)
	}
	for range 100 {
		if err := pair(); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for range n {
		if err := pair(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began)) / float64(n), nil
}

// strange has the keeper keep a key, and a stranger ask for the lock.
func strange(ctx context.Context, keeper, other *member, name string) (time.Duration, error) {
	kept, err := keeper.mutex(name).lock(ctx)
	if err != nil {
		return 0, err
	}
	mine := kept.token()
	if err := kept.unlock(ctx); err != nil {
		return 0, err
	}
	time.Sleep(plainHandoverA) // the key has been kept for a while
	began := time.Now()
	h, err := other.mutex(name).lock(ctx)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if h.token() <= mine {
		return 0, fmt.Errorf("the stranger has token %d after the keeper's %d", h.token(), mine)
	}
	return took, h.unlock(ctx)
}
