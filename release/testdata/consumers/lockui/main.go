// A program of a user of the page for operators.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/lockui"
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
	lock, err := etcdlock.NewMutex(session, "consumer").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	ui, err := lockui.New(client)
	if err != nil {
		log.Fatal(err)
	}
	defer ui.Close()
	server := httptest.NewServer(ui)
	defer server.Close()
	resp, err := http.Get(server.URL + "/names")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println("held:", resp.StatusCode == http.StatusOK)
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
