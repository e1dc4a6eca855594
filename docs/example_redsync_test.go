package docs

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/etcdlock/etcdlock"
)

var errBusy = errors.New("busy")

func likeRedsync(ctx context.Context, session *etcdlock.Session, work func(context.Context, int64) error) error {
	waiting, cancel := context.WithTimeout(ctx, 5*time.Second) // bounds the wait, not the work
	defer cancel()
	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(waiting)
	if errors.Is(err, context.DeadlineExceeded) {
		return errBusy // redsync.ErrFailed
	}
	if err != nil {
		return err
	}
	working, stop := context.WithCancelCause(lock.Context()) // ends with the lock
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })() // and with ctx
	workErr := work(working, lock.Token())
	err = lock.Unlock(ctx)
	if errors.Is(err, etcdlock.ErrUnconfirmed) {
		err = nil // as after SIGTERM: the session deletes the key of the released lock in the background
	}
	return errors.Join(workErr, err)
}

// From redsync.
func Example_redsync() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	err = likeRedsync(ctx, session, func(ctx context.Context, token int64) error {
		_, bounded := ctx.Deadline()
		fmt.Println("working, without the wait's timeout:", !bounded, ctx.Err())
		return nil
	})
	fmt.Println(err)

	ctx, cancel := context.WithCancelCause(ctx)
	fmt.Println(likeRedsync(ctx, session, func(ctx context.Context, _ int64) error {
		cancel(errors.New("the process is told to stop"))
		<-ctx.Done()
		return context.Cause(ctx)
	}))
	// Output:
	// working, without the wait's timeout: true <nil>
	// <nil>
	// the process is told to stop
}
