// A program of a user of the certmagic adapter.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	certmagiclock "github.com/etcdlock/etcdlock/adapters/certmagic"
)

func main() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:]})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	locker := certmagiclock.New(session)
	if err := locker.Lock(ctx, "consumer"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("held: the certificate")
	if err := locker.Unlock(ctx, "consumer"); err != nil {
		log.Fatal(err)
	}
}
