// A program of a user of the gocron adapter.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	gocronlock "github.com/etcdlock/etcdlock/adapters/gocron"
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
	lock, err := gocronlock.NewLocker(session).Lock(ctx, "consumer")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("held: the job")
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
