package docs

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func choose(ctx context.Context, client *clientv3.Client, bill func(context.Context, int64) error) error {
	session, err := etcdlock.NewSession(ctx, client,
		etcdlock.WithTTL(15*time.Second),   // a crashed holder keeps its locks for at most 15 s
		etcdlock.WithMargin(3*time.Second), // work has 3 s to stop after a loss
		etcdlock.WithOwner("billing-7"))    // shown to operators and in errors
	if err != nil {
		return err
	}
	defer session.Close(ctx)

	err = etcdlock.NewMutex(session, "invoices/2026-11").Do(ctx,
		func(ctx context.Context, lock *etcdlock.Lock) error {
			return bill(ctx, lock.Token()) // ctx ends with the lock
		})
	return err
}

// The session and the lock of docs/choosing.md.
func Example_choosing() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	err := choose(ctx, client, func(_ context.Context, token int64) error {
		fmt.Println("billing, with a token:", token > 0)
		return nil
	})
	if err != nil {
		log.Print(err)
	}
	// Output:
	// billing, with a token: true
}
