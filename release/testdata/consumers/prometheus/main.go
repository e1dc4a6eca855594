// A program of a user of the metrics for Prometheus.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/etcdlock/etcdlock"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

func main() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:]})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	metrics := promlock.New()
	prometheus.MustRegister(metrics)
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTrace(metrics.Trace()))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	metrics.Watch(session)
	lock, err := etcdlock.NewMutex(session, "consumer").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("held:", len(families) > 0)
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
