package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A transfer needs both accounts. A call with the names in the other order does not deadlock with it.
func ExampleNewMultiMutex() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	accounts, err := etcdlock.NewMultiMutex(session, []string{"accounts/7", "accounts/3"}).Lock(ctx)
	if err != nil {
		log.Fatal(err) //nolint:gocritic // an example
	}
	_, err = etcdlock.NewMultiMutex(session, []string{"accounts/3", "accounts/9"}).TryLock(ctx)
	fmt.Println("accounts/9 without accounts/3:", errors.Is(err, etcdlock.ErrLocked))
	if err := accounts.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("unlocked", accounts.Names())
	// Output:
	// accounts/9 without accounts/3: true
	// unlocked [accounts/7 accounts/3]
}
