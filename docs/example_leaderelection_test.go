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

func likeClientGo(ctx context.Context, client *clientv3.Client, control func(context.Context, int64) error) error {
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(15*time.Second), etcdlock.WithMargin(5*time.Second))
	if err != nil {
		return err
	}
	defer session.Close(ctx)
	return etcdlock.NewElection(session, "controllers/billing").Run(ctx, "host-a",
		func(ctx context.Context, term *etcdlock.Term) error {
			return control(ctx, term.Token()) // and again after a loss
		},
		etcdlock.WithOnLeader(func(leader etcdlock.Leader) { log.Printf("leader: %q", leader.Value) }),
		etcdlock.WithStopTimeout(3*time.Second), // the work stops in time after a loss,
		etcdlock.WithExitWhenStuck())            // or the process exits
}

// From client-go's leaderelection.
func Example_leaderelection() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	err := likeClientGo(ctx, client, func(ctx context.Context, token int64) error {
		fmt.Println("leading")
		cancel() // the process is told to stop
		<-ctx.Done()
		return nil
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// leading
	// true
}
