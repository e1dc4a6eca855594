package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// The main loop of a service of which one instance is active. Run campaigns, and again
// after every loss; it gives leadership away only when the work has returned.
func ExampleElection_Run() {
	// A service: signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx, shutDown := context.WithCancel(context.Background())
	defer shutDown()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	err = etcdlock.NewElection(session, "billing").Run(ctx, "host-a",
		func(ctx context.Context, term *etcdlock.Term) error {
			fmt.Println("leading as", term.Value())
			shutDown() // as the signal would
			<-ctx.Done()
			fmt.Println("the work is put down; the next one may lead")
			return nil
		})
	if !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	// Output:
	// leading as host-a
	// the work is put down; the next one may lead
}
