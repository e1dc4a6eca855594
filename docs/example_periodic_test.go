package docs

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

func nightly(ctx context.Context, session *etcdlock.Session, runUnlessDone func(context.Context, int64) error) error {
	lock, err := etcdlock.NewMutex(session, "jobs/nightly").TryLock(ctx)
	if errors.Is(err, etcdlock.ErrLocked) {
		return nil // another process runs it
	}
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(lock.Context()) // ends with the lock
	defer stop()
	defer context.AfterFunc(ctx, stop)() // and with ctx
	err = runUnlessDone(work, lock.Token())
	return errors.Join(err, lock.Unlock(ctx))
}

// The periodic job of docs/choosing.md, in two processes.
func Example_periodic() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	first, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close(ctx)
	second, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close(ctx)

	err = nightly(ctx, first, func(ctx context.Context, token int64) error {
		fmt.Println("the first runs it, with a token:", token > 0)
		return nightly(ctx, second, func(context.Context, int64) error {
			fmt.Println("the second runs it as well")
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// the first runs it, with a token: true
	// <nil>
}
