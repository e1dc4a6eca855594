package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock/compat/concurrency"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A program written for etcd's package, with another import path.
func Example() {
	ctx := context.Background()
	client := simetcd.New(simetcd.Config{}).Client("example").Client // clientv3.New(...)
	defer client.Close()

	s1, err := concurrency.NewSession(client, concurrency.WithTTL(15))
	if err != nil {
		log.Fatal(err)
	}
	defer s1.Close()
	s2, err := concurrency.NewSession(client, concurrency.WithTTL(15))
	if err != nil {
		log.Fatal(err)
	}
	defer s2.Close()
	m1, m2 := concurrency.NewMutex(s1, "/my-lock/"), concurrency.NewMutex(s2, "/my-lock/")

	if err := m1.Lock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("taken:", errors.Is(m2.TryLock(ctx), concurrency.ErrLocked))
	if err := m1.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("free:", m2.TryLock(ctx) == nil)
	fmt.Println("a larger token:", m2.Header().Revision > m1.Header().Revision)
	// Output:
	// taken: true
	// free: true
	// a larger token: true
}
