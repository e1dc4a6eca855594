package promlock_test

import (
	"context"
	"log"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

// A service that serves its metrics.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
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

	http.Handle("GET /metrics", promhttp.Handler())
	log.Fatal(http.ListenAndServe(":8080", nil))
}
