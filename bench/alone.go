package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// act is something that is done alone, again and again.
type act struct {
	spot
	do func(ctx context.Context) error
}

const (
	lockPair     = "lock + unlock"
	tryPair      = "try + unlock"
	tryTaken     = "try, taken"
	campaignPair = "campaign + resign"
)

// alone times single acts without contention. The contestants alternate in blocks of a
// few acts, so that they meet the same disturbances. Within a block, the background work
// of a contestant mostly falls on the contestant itself.
func alone(ctx context.Context, b *bench) error {
	client, err := newClient(b.where.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	acts := floorActs(b, client)
	var members []*member
	var taken []hold
	defer func() {
		for _, h := range taken {
			_ = h.unlock(context.WithoutCancel(ctx)) // it ends with its session anyway
		}
		for _, m := range members {
			m.close()
		}
	}()
	enter := func(c contestant) (*member, error) {
		m, err := join(ctx, c, b.where)
		if err == nil {
			members = append(members, m)
		}
		return m, err
	}
	for _, c := range append(b.contestants(), control()) {
		m, err := enter(c)
		if err != nil {
			return err
		}
		acts = append(acts, lockActs(b, c, m)...)
		if !b.everything {
			continue
		}
		other, err := enter(c)
		if err != nil {
			return err
		}
		name := b.name("alone/taken/%s", c.key)
		if try, ok := m.mutex(name).(tryMutex); ok {
			h, err := other.mutex(name).lock(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.key, err)
			}
			taken = append(taken, h)
			acts = append(acts, takenAct(b, c, try))
		}
	}
	for _, a := range acts { // warm
		for range 20 {
			if err := a.do(ctx); err != nil {
				return fmt.Errorf("%s, %s: %w", a.Contestant, a.Case, err)
			}
		}
	}
	for range b.rounds {
		if err := aloneRound(ctx, b, acts); err != nil {
			return err
		}
	}
	return nil
}

func aloneRound(ctx context.Context, b *bench, acts []act) error {
	took := make([][]float64, len(acts))
	block := 20
	if b.profile != nil {
		block = b.alonePairs
		for _, a := range acts {
			b.profile.of(a.spot) // the tables have this order
		}
	}
	for range b.alonePairs / block {
		for _, n := range rand.Perm(len(acts)) { // nobody always comes after the same other one
			err := b.profile.during(ctx, acts[n].spot, func() (int, error) {
				for range block {
					began := time.Now()
					if err := acts[n].do(ctx); err != nil {
						return 0, err
					}
					took[n] = append(took[n], micros(time.Since(began)))
				}
				return block, nil
			})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", acts[n].Contestant, acts[n].Case, err)
			}
		}
	}
	for i, a := range acts {
		at := a.spot
		at.Metric = "p50"
		b.book.add(at, "µs", low, median(took[i]))
		at.Metric = "p99"
		b.book.add(at, "µs", low, quantile(took[i], 0.99))
	}
	return nil
}

// floorActs are the requests that a lock and unlock cannot do without. They stand
// beside every act, so that each has its floor in its own case.
func floorActs(b *bench, client *clientv3.Client) []act {
	key := b.name("alone/floor")
	pair := func(ctx context.Context) error { return putDelete(ctx, client, key) }
	acts := []act{{spot{Suite: "alone", Nodes: b.nodes, Case: lockPair, Contestant: theFloor}, pair}}
	if b.everything {
		acts = append(acts,
			act{spot{Suite: "alone", Nodes: b.nodes, Case: tryPair, Contestant: theFloor}, pair},
			act{spot{Suite: "alone", Nodes: b.nodes, Case: campaignPair, Contestant: theFloor}, pair},
			act{spot{Suite: "alone", Nodes: b.nodes, Case: tryTaken, Contestant: theFloor}, func(ctx context.Context) error {
				_, err := client.Get(ctx, key)
				return err
			}})
	}
	return acts
}

func lockActs(b *bench, c contestant, m *member) []act {
	mu := m.mutex(b.name("alone/lock/%s", c.key))
	at := spot{Suite: "alone", Nodes: b.nodes, Contestant: c.key}
	add := func(what string, take func(ctx context.Context) (hold, error)) act {
		at.Case = what
		return act{at, func(ctx context.Context) error {
			h, err := take(ctx)
			if err != nil {
				return err
			}
			return h.unlock(ctx)
		}}
	}
	acts := []act{add(lockPair, mu.lock)}
	if try, ok := mu.(tryMutex); ok && b.everything {
		acts = append(acts, add(tryPair, try.tryLock))
	}
	if cand, ok := m.session.(candidate); ok && (b.everything || c.key == theLibrary) {
		name := b.name("alone/campaign/%s", c.key)
		acts = append(acts, add(campaignPair, func(ctx context.Context) (hold, error) { return cand.campaign(ctx, name) }))
	}
	return acts
}

// takenAct tries a lock that another session holds.
func takenAct(b *bench, c contestant, try tryMutex) act {
	return act{
		spot{Suite: "alone", Nodes: b.nodes, Case: tryTaken, Contestant: c.key},
		func(ctx context.Context) error {
			h, err := try.tryLock(ctx)
			switch {
			case err == nil:
				return errors.Join(errors.New("got a lock that is taken"), h.unlock(ctx))
			case errors.Is(err, errTaken):
				return nil
			}
			return err
		},
	}
}

// control is Mutex once more: what it measures apart from Mutex is the noise of this
// suite, and what is less than that apart from Mutex is no difference.
func control() contestant {
	c := onEtcd()[0]
	c.key = theControl
	c.about += ", once more: the noise"
	return c
}
