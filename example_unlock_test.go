package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Unlock tells when the lock had been lost before, and why: then the work may not have
// been alone to its end.
func ExampleLock_Unlock() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	lock, err := etcdlock.NewMutex(session, "orders/43").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}

	// An administrator loses patience: etcdctl del orders/43/...
	if _, err := client.Delete(ctx, lock.Key()); err != nil {
		log.Fatal(err)
	}

	err = lock.Unlock(ctx)
	switch {
	case err == nil:
		fmt.Println("released")
	case errors.Is(err, etcdlock.ErrUnconfirmed):
		fmt.Println("released, and the key is being deleted:", err)
	case errors.Is(err, etcdlock.ErrEvicted):
		fmt.Println("another client deleted the key")
	case errors.Is(err, etcdlock.ErrExpired), errors.Is(err, etcdlock.ErrRevoked):
		fmt.Println("the lease ended")
	default:
		fmt.Println("unlocked before:", err)
	}
	fmt.Println("lost:", errors.Is(err, etcdlock.ErrLost))
	// Output:
	// another client deleted the key
	// lost: true
}
