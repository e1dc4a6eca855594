package docs

import (
	"context"
	"errors"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func likeTheReadme(ctx context.Context, client *clientv3.Client, schedule func(context.Context, int64) error) error {
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	return etcdlock.NewElection(session, "scheduler").Run(ctx, "host-a:8080",
		func(ctx context.Context, term *etcdlock.Term) error {
			return schedule(ctx, term.Token()) // ctx ends when the term does
		})
}

// The election of the README.
func Example_readme() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	err := likeTheReadme(ctx, client, func(ctx context.Context, token int64) error {
		fmt.Println("leading, with a token:", token > 0)
		cancel() // the process is told to stop
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		log.Print(err)
	}
	// Output:
	// leading, with a token: true
}
