package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

// A cleanup every few minutes, in one of many processes. A process that finds the lock taken skips
// it. If the holder crashes, the next cleanup does its work. A job that must not be left out waits for
// the lock instead, see "A periodic job" in docs/choosing.md.
func ExampleMutex_TryLock() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()

	for _, host := range []string{"host-a", "host-b"} {
		session, err := etcdlock.NewSession(ctx, client, etcdlock.WithOwner(host)) // in a process of its own
		if err != nil {
			log.Fatal(err)
		}
		defer session.Close(ctx) //nolint:revive // both processes go on to the end

		lock, err := etcdlock.NewMutex(session, "cron/cleanup").TryLock(ctx)
		var locked *etcdlock.LockedError
		switch {
		case errors.As(err, &locked): // as errors.Is(err, etcdlock.ErrLocked), and names the holder
			fmt.Println(host, "leaves it to", locked.Holder.Owner)
			continue
		case err != nil:
			log.Fatal(err)
		}
		defer func() { _ = lock.Unlock(ctx) }() //nolint:revive // both processes go on to the end
		fmt.Println(host, "cleans up")
	}
	// Output:
	// host-a cleans up
	// host-b leaves it to host-a
}
