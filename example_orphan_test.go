package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A process that restarts within its TTL keeps its locks: it leaves the lease behind
// on purpose, and the next one takes it over with the keys under it.
func ExampleSession_Orphan() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	before, err := etcdlock.NewMutex(session, "disk/1").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	lease, err := session.Orphan(ctx) // hand it to the next process, through a file for example
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the old process has left it behind:", errors.Is(before.Err(), etcdlock.ErrOrphaned))

	successor, err := etcdlock.NewSession(ctx, client, etcdlock.WithLease(lease))
	if err != nil {
		log.Fatal(err) // ErrLeaseNotFound: too late, start over
	}
	defer successor.Close(ctx)
	after, err := etcdlock.NewMutex(successor, "disk/1").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the new one has the same key:", after.Key() == before.Key())
	fmt.Println("and a larger token:", after.Token() > before.Token())
	// Output:
	// the old process has left it behind: true
	// the new one has the same key: true
	// and a larger token: true
}
