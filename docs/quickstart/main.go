// Command quickstart takes a lock, works under it, and releases it. The README shows its run function.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := run(ctx, client); err != nil {
		log.Print(err)
	}
}

func run(ctx context.Context, client *clientv3.Client) error {
	session, err := etcdlock.NewSession(ctx, client) // one per process; waits for etcd until ctx ends
	if err != nil {
		return err
	}
	defer session.Close(ctx)

	wait, cancel := context.WithTimeout(ctx, 5*time.Second) // bounds the wait, not the work
	defer cancel()
	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(wait)
	if errors.Is(err, etcdlock.ErrLocked) {
		return fmt.Errorf("order 42 is busy: %w", err) // the error names the holder
	}
	if err != nil {
		return err // for example, etcd did not answer within 5 s
	}

	// The work ends with the lock, before another process can acquire it, and with ctx, on SIGTERM.
	work, stop := context.WithCancelCause(lock.Context())
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	workErr := ship(work, "orders/42", lock.Token()) // lets the database refuse late writes

	err = lock.Unlock(ctx)
	if errors.Is(err, etcdlock.ErrUnconfirmed) {
		err = nil // as after SIGTERM: the session deletes the key of the released lock in the background
	}
	return errors.Join(workErr, err) // ErrLost: the lock was lost before the work had ended
}

// shipping is how long the work takes.
var shipping = time.Second

// ship stands for the work.
func ship(ctx context.Context, order string, token int64) error {
	fmt.Printf("shipping %s with token %d\n", order, token)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(shipping):
		return nil
	}
}
