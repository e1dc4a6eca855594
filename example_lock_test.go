package etcdlock_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/etcdlock/etcdlock"
)

// The session is made once for a process; each critical section takes a lock of its
// own and releases it.
func ExampleMutex_Lock() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()

	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// lock.Context() ends when the lock is lost: do the work under it.
	fmt.Println("alone with order 42:", lock.Context().Err() == nil)

	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("afterwards:", lock.Err())
	// Output:
	// alone with order 42: true
	// afterwards: already released
}
