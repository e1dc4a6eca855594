package docs

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

var errBusyReport = errors.New("another process makes the report")

func handleErrors(ctx context.Context, session *etcdlock.Session, report func(context.Context) error) error {
	err := etcdlock.NewMutex(session, "reports/daily").Do(ctx,
		func(ctx context.Context, _ *etcdlock.Lock) error { return report(ctx) })
	var locked *etcdlock.LockedError
	switch {
	case errors.As(err, &locked): // a deadline of ctx passed while another process held the lock
		return fmt.Errorf("%w: %s on %s", errBusyReport, locked.Holder.Owner, locked.Holder.Host)
	case errors.Is(err, etcdlock.ErrSessionClosed): // this process is shutting down
		return nil
	case errors.Is(err, etcdlock.ErrLost): // incomplete, and another process may write the report now
		return fmt.Errorf("try again: %w", err)
	}
	return err
}

// The errors of docs/errors.md.
func Example_errors() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithOwner("host-a"))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	err = handleErrors(ctx, session, func(ctx context.Context) error {
		revoke(ctx, client, session) // an operator
		<-ctx.Done()
		return ctx.Err()
	})
	fmt.Println(errors.Is(err, etcdlock.ErrLost), errors.Is(err, etcdlock.ErrRevoked))

	other, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close(ctx)
	held, err := etcdlock.NewMutex(session, "reports/daily").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err = handleErrors(short, other, func(context.Context) error { return nil })
	fmt.Println(errors.Is(err, errBusyReport), held.Err())
	// Output:
	// true true
	// true <nil>
}

func revoke(ctx context.Context, client *clientv3.Client, session *etcdlock.Session) {
	if _, err := client.Revoke(context.WithoutCancel(ctx), session.Lease()); err != nil {
		log.Print(err)
	}
}
