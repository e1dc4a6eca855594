package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// What is written to etcd itself is fenced by a transaction under the guard: it is
// refused once the lock is over, however late it arrives.
func ExampleLock_Guard() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	lock, err := etcdlock.NewMutex(session, "locks/orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}

	write := func(state string) {
		resp, err := client.Txn(ctx).
			If(lock.Guard()).
			Then(clientv3.OpPut("data/orders/42", state)).
			Commit()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(state+":", resp.Succeeded)
	}
	write("paid")
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	write("shipped") // too late
	// Output:
	// paid: true
	// shipped: false
}

// What is written elsewhere is fenced by the token: the resource refuses one that is
// smaller than the largest that it has seen.
func ExampleLock_Token() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	// The resource: a database would keep the token in the row, and compare it in the
	// WHERE of the UPDATE.
	var largest int64
	write := func(token int64, what string) {
		if token < largest {
			fmt.Println("refused:", what)
			return
		}
		largest = token
		fmt.Println("written:", what)
	}

	mutex := etcdlock.NewMutex(session, "accounts/7")
	var tokens [2]int64
	for i := range tokens {
		lock, err := mutex.Lock(ctx)
		if err != nil {
			log.Fatal(err)
		}
		tokens[i] = lock.Token()
		if err := lock.Unlock(ctx); err != nil {
			log.Fatal(err)
		}
	}
	write(tokens[1], "by the second holder")
	write(tokens[0], "by the first holder, which stood still in between")
	// Output:
	// written: by the second holder
	// refused: by the first holder, which stood still in between
}
