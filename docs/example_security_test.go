package docs

import (
	"context"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock"
)

func inANamespace(ctx context.Context, client *clientv3.Client) (*etcdlock.Session, error) {
	client.KV = namespace.NewKV(client.KV, "team-a/")
	client.Watcher = namespace.NewWatcher(client.Watcher, "team-a/")
	client.Lease = namespace.NewLease(client.Lease, "team-a/")
	session, err := etcdlock.NewSession(ctx, client)
	return session, err
}

// The namespace of docs/security.md.
func Example_security() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	outside := client.KV
	session, err := inANamespace(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	lock, err := etcdlock.NewMutex(session, "orders").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	found, err := outside.Get(ctx, "team-a/"+lock.Key())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("keys behind the prefix:", found.Count)
	// Output:
	// keys behind the prefix: 1
}
