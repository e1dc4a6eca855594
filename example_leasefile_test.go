package etcdlock_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/etcdlock/etcdlock"
)

// A process that is started again within its TTL goes on with its term: no election takes
// place. Here the first one leaves in order; after a crash it is the same.
func ExampleWithLeaseFile() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := etcdlock.WithLeaseFile(filepath.Join(dir, "billing.lease")) // /var/lib/billing/lease

	start := func() (*etcdlock.Session, *etcdlock.Term) {
		session, err := etcdlock.NewSession(ctx, client, file)
		if err != nil {
			log.Fatal(err)
		}
		term, err := etcdlock.NewElection(session, "billing").Campaign(ctx, "host-a")
		if err != nil {
			log.Fatal(err)
		}
		return session, term
	}
	before, first := start()
	if _, err := before.Orphan(ctx); err != nil { // for the next process
		log.Fatal(err)
	}
	after, second := start()
	defer after.Close(ctx)
	fmt.Println("the same key:", first.Key() == second.Key())
	fmt.Println("a larger token:", second.Token() > first.Token())
	// Output:
	// the same key: true
	// a larger token: true
}
