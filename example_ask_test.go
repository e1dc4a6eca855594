package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A long job holds the lock and lets go when an operator asks it to.
func ExampleSession_Ask() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	lock, err := etcdlock.NewMutex(session, "reindex").Lock(ctx)
	if err != nil {
		log.Fatal(err) //nolint:gocritic // an example
	}
	stopped := make(chan error)
	go func() {
		request := <-lock.Asked()
		fmt.Println("asked to let go:", request.Reason)
		stopped <- lock.Unlock(ctx) // after coming to a good end
	}()

	if err := session.Ask(ctx, "reindex", "deployment"); err != nil { // by another process
		log.Fatal(err)
	}
	fmt.Println("it has let go:", <-stopped)
	// Output:
	// asked to let go: deployment
	// it has let go: <nil>
}
