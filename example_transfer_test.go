package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Before maintenance the leader hands over to a named instance, even if others have waited for longer.
func ExampleTerm_Transfer() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	candidate := func() *etcdlock.Election { // each in a process of its own
		session, err := etcdlock.NewSession(ctx, client)
		if err != nil {
			log.Fatal(err)
		}
		return etcdlock.NewElection(session, "database")
	}
	a, b := candidate(), candidate()
	term, err := a.Campaign(ctx, "host-a")
	if err != nil {
		log.Fatal(err)
	}
	next := make(chan *etcdlock.Term)
	go func() {
		term, err := b.Campaign(ctx, "host-b")
		if err != nil {
			log.Fatal(err)
		}
		next <- term
	}()
	for waiting := 0; waiting < 2; {
		all, err := a.Candidates(ctx) // the leader first
		if err != nil {
			log.Fatal(err)
		}
		waiting = len(all)
	}

	// The work has ended by now; then:
	if err := term.Transfer(ctx, "host-b"); err != nil {
		log.Fatal(err)
	}
	term = <-next
	fmt.Println(term.Value(), "leads")
	// Output: host-b leads
}
