package docs

import (
	"context"
	"fmt"
	"log"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func lockAsEtcdsExamples(ctx context.Context, client *clientv3.Client, work func(context.Context, *etcdlock.Lock) error) error {
	// The key "/my-lock//694d..." of etcd's own examples is that of the name "/my-lock/".
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithForeignNames())
	if err != nil {
		return err
	}
	defer session.Close(ctx)
	return etcdlock.NewMutex(session, "/my-lock/").Do(ctx, work)
}

// The name of docs/compatibility.md.
func Example_compatibility() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	err := lockAsEtcdsExamples(ctx, client, func(_ context.Context, lock *etcdlock.Lock) error {
		fmt.Println(strings.HasPrefix(lock.Key(), "/my-lock//"))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
}
