package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Queue lists the holders and the waiters. An operator sees which process a stuck service waits for.
func ExampleMutex_Queue() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	mutex := etcdlock.NewMutex(session, "migrations", etcdlock.WithOwner("release 1.4"))
	lock, err := mutex.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = lock.Unlock(ctx) }()

	queue, err := mutex.Queue(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for i, entry := range queue {
		fmt.Println(i, entry.Owner, entry.Mode, entry.Holding, entry.Key == lock.Key())
	}
	// Output: 0 release 1.4 exclusive true true
}
