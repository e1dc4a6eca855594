package etcdlock_test

import (
	"context"
	"log"
	"time"

	"github.com/etcdlock/etcdlock"
)

// What is written under the lock goes to a system that checks no tokens, and may take up to
// 15 s to arrive. If this process is cut off, no other process holds before these are over.
func ExampleWithLockDelay() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithLockDelay(15*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx) // no delay after this
	// Output:
}
