package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The floor: what etcd itself takes for the least that a lock needs of it.

// putDelete is the floor of a lock and unlock.
func putDelete(ctx context.Context, c *clientv3.Client, key string) error {
	if _, err := c.Put(ctx, key, ""); err != nil {
		return err
	}
	_, err := c.Delete(ctx, key)
	return err
}

// leastHandover is the floor of a handover now: the median of some, one after the other.
func leastHandover(ctx context.Context, floor handoverWay, name string, times int) (µs float64, err error) {
	var st stage
	took := make([]float64, times)
	for i := range took {
		d, err := floor.do(ctx, fmt.Sprintf("%s/%d", name, i), 0, &st)
		if err != nil {
			return 0, err
		}
		took[i] = micros(d)
	}
	return median(took), nil
}

// deleteUntilEvent is the floor of a handover: a watch of the given age, on another
// client than the one that deletes, and the time until it has the event.
func deleteUntilEvent(ctx context.Context, holder, waiter *clientv3.Client, key string, age time.Duration, st *stage) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := holder.Put(ctx, key, ""); err != nil {
		return 0, err
	}
	began := time.Now()
	// Without a start revision: "from now", so that it is served at once.
	events := waiter.Watch(ctx, key, clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	if r, open := <-events; !open || !r.Created {
		return 0, fmt.Errorf("the floor's watch was not created: %w", r.Err())
	}
	heard := make(chan time.Time, 1)
	go func() {
		for r := range events {
			if len(r.Events) > 0 {
				heard <- time.Now()
				return
			}
		}
	}()
	return st.handover(ctx, began.Add(age), heard, func() error {
		_, err := holder.Delete(ctx, key)
		return err
	})
}
