package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A service that takes no new work while its session has trouble.
func ExampleSession_States() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	for state := range session.States(ctx) {
		switch state {
		case etcdlock.StateConnected:
			fmt.Println(state, "- open for work")
			go session.Close(ctx) // somewhere else in the program
		case etcdlock.StateSuspended:
			fmt.Println(state, "- what is held stays held until its deadline: take no new work")
		case etcdlock.StateLost:
			fmt.Println(state, "- what was held is lost; a new lease is on its way")
		case etcdlock.StateClosed:
			fmt.Println(state, "- for good")
		}
	}
	// Output:
	// connected - open for work
	// closed - for good
}
