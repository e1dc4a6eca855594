package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// Two processes that take two locks in opposite order. The one that comes last is told, and
// lets go.
func ExampleWithDeadlockDetection() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	detect := etcdlock.WithDeadlockDetection("stock/")
	apples := etcdlock.NewMutex(session, "stock/apples", detect)
	pears := etcdlock.NewMutex(session, "stock/pears", detect)
	both := func(first, second *etcdlock.Mutex, ready, other chan struct{}) error {
		return first.Do(ctx, func(ctx context.Context, _ *etcdlock.Lock) error {
			close(ready)
			<-other // each of them has its first one
			return second.Do(ctx, func(context.Context, *etcdlock.Lock) error { return nil })
		})
	}
	a, b, done := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	go func() { done <- both(apples, pears, a, b) }()
	go func() { done <- both(pears, apples, b, a) }()
	one, two := <-done, <-done
	fmt.Println("refused:", errors.Is(one, etcdlock.ErrDeadlock), "has both:", two)
	// Output:
	// refused: true has both: <nil>
}
