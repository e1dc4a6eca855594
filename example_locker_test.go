package etcdlock_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/etcdlock/etcdlock"
)

// For code that asks for a sync.Locker.
func ExampleMutex_Locker() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	raise := func(l sync.Locker, counter *int) {
		l.Lock()
		defer l.Unlock()
		*counter++
	}
	counter := 0
	raise(etcdlock.NewMutex(session, "counter").Locker(), &counter)
	fmt.Println(counter)
	// Output: 1
}
