package docs

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func observed(ctx context.Context, client *clientv3.Client, gauge func(state string)) (*etcdlock.Session, error) {
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithSlog(slog.Default()), etcdlock.WithOwner("billing-7"))
	if err != nil {
		return nil, err
	}
	go func() {
		for state := range session.States(ctx) { // connected, suspended, lost, closed
			gauge(state.String())
		}
	}()
	return session, nil
}

// The gauge of docs/operating.md.
func Example_operating() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	states := make(chan string)
	session, err := observed(ctx, client, func(state string) { states <- state })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-states)
	if err := session.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-states)
	// Output:
	// connected
	// closed
}
