package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Readers hold together, a writer alone. A reader that finds something to change becomes
// a writer, and then a reader again, with no other writer in between.
func ExampleRWMutex() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	config := etcdlock.NewRWMutex(session, "config")
	mine, err := config.RLock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	other, err := config.RLock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("two readers:", mine.Err() == nil && other.Err() == nil)
	if err := other.Unlock(ctx); err != nil {
		log.Fatal(err)
	}

	writer, err := mine.Upgrade(ctx) // ErrUpgradeConflict if another reader is ahead with that
	if err != nil {
		log.Fatal(err)
	}
	_, err = config.TryRLock(ctx)
	fmt.Println("meanwhile locked:", errors.Is(err, etcdlock.ErrLocked))

	reader, err := writer.Downgrade(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// two readers: true
	// meanwhile locked: true
}
