package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Do locks, works and unlocks. The context that the work gets ends with the lock.
func ExampleMutex_Do() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	mutex := etcdlock.NewMutex(session, "reports/daily")
	err = mutex.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
		for page := range 3 {
			if err := ctx.Err(); err != nil {
				return err // the lock was lost: another process may be at work
			}
			fmt.Println("page", page)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// page 0
	// page 1
	// page 2
}
