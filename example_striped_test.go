package etcdlock_test

import (
	"context"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Millions of orders, and 16 queues in etcd.
func ExampleStriped() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	orders := etcdlock.NewStriped(session, "orders", 16)
	err = orders.For("42").Do(ctx, func(context.Context, *etcdlock.Lock) error {
		fmt.Println("order 42 is under", orders.For("42").Name())
		return nil
	})
	if err != nil {
		log.Fatal(err) //nolint:gocritic // an example
	}
	// Output:
	// order 42 is under orders/3
}
