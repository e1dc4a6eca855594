package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// An observer follows the leader without being a candidate: a proxy that sends its
// requests there. A vacancy is an observation too.
func ExampleElection_Observe() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	election := etcdlock.NewElection(session, "primary")

	// Another process leads.
	term, err := election.Campaign(ctx, "host-a")
	if err != nil {
		log.Fatal(err)
	}

	for leader, err := range election.Observe(ctx) {
		if err != nil {
			log.Fatal(err) // it cannot go on; all that passes, it sits out
		}
		if leader.Vacant() {
			fmt.Println("there is no leader")
			break
		}
		fmt.Println("send to", leader.Value)

		// What the leader does meanwhile.
		if leader.Value == "host-a" {
			err = term.Proclaim(ctx, "host-a:8080")
		} else {
			err = term.Resign(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// send to host-a
	// send to host-a:8080
	// there is no leader
}
