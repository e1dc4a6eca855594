// A program of a user of the library.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
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
	err = etcdlock.NewMutex(session, "consumer").Do(ctx, func(_ context.Context, lock *etcdlock.Lock) error {
		_, err := fmt.Println("held:", lock.Key(), lock.Token())
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
