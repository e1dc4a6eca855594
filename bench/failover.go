package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"golang.org/x/sync/errgroup"
)

const (
	beyondTTL    = "beyond the TTL" // the worst of a round
	medianBeyond = "median, beyond the TTL"
)

// failover kills processes that hold a lock, and measures when the next one holds.
// etcd has to wait for the TTL, and looks for expired leases every half second.
func failover(ctx context.Context, b *bench) error {
	list := b.onEtcdOnly()
	for round := range b.rounds {
		for _, ttl := range b.ttls {
			// The holders of all contestants die in one go: while they wait nothing else
			// happens, and they do not disturb each other.
			var (
				all  errgroup.Group
				mu   sync.Mutex
				took = make([][]float64, len(list))
			)
			for i, c := range list {
				for n := range b.crashes {
					all.Go(func() error {
						// Each at another phase between two renewals, a third of the TTL apart.
						after := ttl/2 + time.Duration(n)*ttl/time.Duration(3*b.crashes)
						d, err := crash(ctx, b, c, b.name("failover/%s/%v/%d/%d", c.key, ttl, round, n), ttl, after)
						mu.Lock()
						defer mu.Unlock()
						took[i] = append(took[i], d.Seconds())
						return err
					})
				}
			}
			if err := all.Wait(); err != nil {
				return err
			}
			for i, c := range list {
				at := spot{"failover", b.nodes, fmt.Sprintf("TTL %v", ttl), c.key, beyondTTL}
				b.book.add(at, "s", low, quantile(took[i], 1))
				at.Metric = medianBeyond
				b.book.add(at, "s", low, median(took[i]))
			}
		}
	}
	return nil
}

// crash returns by how much the wait from the kill to the next hold was longer than
// the TTL that was granted. It is negative when the last renewal was a while ago.
func crash(ctx context.Context, b *bench, c contestant, name string, ttl, after time.Duration) (beyond time.Duration, err error) {
	victim, err := hire(b.crew.kids)
	if err != nil {
		return 0, err
	}
	defer victim.Kill()
	if _, err := victim.tell(order{Do: doHold, Contestant: c.key, Where: b.where, Name: name, Callers: 1, TTL: ttl}); err != nil {
		return 0, err
	}
	heir, err := join(ctx, c, b.where)
	if err != nil {
		return 0, err
	}
	defer heir.close()
	granted, err := grantedTTL(ctx, b, name)
	if err != nil {
		return 0, err
	}
	type outcome struct {
		at  time.Time
		err error
	}
	held := make(chan outcome, 1)
	began := time.Now()
	go func() {
		h, err := heir.mutex(name).lock(ctx)
		held <- outcome{time.Now(), err}
		if err == nil {
			_ = h.unlock(ctx)
		}
	}()
	time.Sleep(time.Until(began.Add(after))) // the candidate waits, and the victim has renewed meanwhile
	select {
	case o := <-held:
		return 0, errors.Join(o.err, errors.New("the heir did not wait for the holder"))
	default:
	}
	killed := time.Now()
	victim.Kill()
	o := <-held
	return o.at.Sub(killed) - granted, o.err
}

// grantedTTL is that of the one key under a name.
func grantedTTL(ctx context.Context, b *bench, name string) (time.Duration, error) {
	client, err := newClient(b.where.Etcd)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	r, err := client.Get(ctx, name+"/", clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	if len(r.Kvs) != 1 {
		return 0, fmt.Errorf("%d keys instead of the holder's under %s", len(r.Kvs), name)
	}
	l, err := client.TimeToLive(ctx, clientv3.LeaseID(r.Kvs[0].Lease))
	if err != nil {
		return 0, err
	}
	return time.Duration(l.GrantedTTL) * time.Second, nil
}
