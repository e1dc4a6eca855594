package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A candidate leads for one term, tells where it can be reached, and resigns. A
// service that does nothing else uses Run.
func ExampleElection_Campaign() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	election := etcdlock.NewElection(session, "scheduler")
	term, err := election.Campaign(ctx, "host-a") // blocks until it leads
	if err != nil {
		log.Fatal(err)
	}
	if err := term.Proclaim(ctx, "host-a:8080"); err != nil {
		log.Fatal(err)
	}

	leader, err := election.Leader(ctx) // any process may ask
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("leader:", leader.Value)

	if err := term.Resign(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = election.Leader(ctx)
	fmt.Println(err)
	// Output:
	// leader: host-a:8080
	// etcdlock: find the leader of "scheduler": no leader
}
