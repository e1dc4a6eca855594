package docs

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/etcdlock/etcdlock"
)

//nolint:errcheck // Done reports a loss during the report
func likeConsul(ctx context.Context, session *etcdlock.Session, report func() <-chan error) error {
	lock, err := etcdlock.NewMutex(session, "jobs/report").TryLock(ctx)
	if errors.Is(err, etcdlock.ErrLocked) {
		return nil // another process has it
	}
	if err != nil {
		return err
	}
	defer lock.Unlock(ctx)
	select {
	case err := <-report():
		return err
	case <-lock.Done():
		return lock.Err() // lost, and why
	}
}

// From Consul's api.
func Example_consul() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	fmt.Println(likeConsul(ctx, session, func() <-chan error {
		done := make(chan error, 1)
		done <- nil
		return done
	}))
	err = likeConsul(ctx, session, func() <-chan error {
		_, _ = client.Revoke(ctx, session.Lease()) // an administrator
		return nil
	})
	fmt.Println(errors.Is(err, etcdlock.ErrLost), errors.Is(err, etcdlock.ErrRevoked))
	// Output:
	// <nil>
	// true true
}
