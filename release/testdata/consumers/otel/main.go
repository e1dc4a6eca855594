// A program of a user of the telemetry for OpenTelemetry.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel"

	"github.com/etcdlock/etcdlock"
	otellock "github.com/etcdlock/etcdlock/otel"
)

func main() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:]})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	telemetry, err := otellock.New(otel.GetMeterProvider(), otel.GetTracerProvider())
	if err != nil {
		log.Fatal(err)
	}
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTrace(telemetry.Trace()))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	lock, err := etcdlock.NewMutex(session, "consumer").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("held: with a span")
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
