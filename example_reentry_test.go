package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A function that locks for itself can also be called by a holder of the lock, if it is given
// the context of the hold and the mutex allows re-entry. Without the option the inner call
// fails with ErrDeadlock.
func ExampleWithReentry() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	orders := etcdlock.NewMutex(session, "orders", etcdlock.WithReentry(2))
	ship := func(ctx context.Context, id int) error {
		return orders.Do(ctx, func(context.Context, *etcdlock.Lock) error {
			fmt.Println("order", id, "is shipped")
			return nil
		})
	}
	err = orders.Do(ctx, func(ctx context.Context, _ *etcdlock.Lock) error {
		for id := range 2 {
			if err := ship(ctx, id); err != nil { // with the outer ctx it would wait without end
				return err
			}
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// order 0 is shipped
	// order 1 is shipped
	// <nil>
}
