package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// At most four units of work at a time among all processes; a large job takes three of them.
func ExampleSemaphore() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	jobs := etcdlock.NewSemaphore(session, "jobs", 4)
	large, err := jobs.Acquire(ctx, 3)
	if err != nil {
		log.Fatal(err)
	}
	_, err = jobs.TryAcquire(ctx, 2)
	fmt.Println("two more:", errors.Is(err, etcdlock.ErrLocked))
	err = jobs.Do(ctx, 1, func(context.Context, *etcdlock.Permit) error {
		fmt.Println("one more fits")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := large.Release(ctx); err != nil {
		log.Fatal(err)
	}

	// Another limit, for all processes and while it is in use; 0 takes that back.
	if err := jobs.SetLimit(ctx, 8); err != nil {
		log.Fatal(err)
	}
	limit, err := jobs.Limit(ctx)
	fmt.Println("now", limit, err)
	if err := jobs.SetLimit(ctx, 0); err != nil {
		log.Fatal(err)
	}
	// Output:
	// two more: true
	// one more fits
	// now 8 <nil>
}
