// Command observed is two services whose locks can be seen: each serves metrics for Prometheus, and
// prints a span for each acquisition and a line for each grant and each end.
//
//	go run ./observed
//	curl http://127.0.0.1:9601/metrics
//
// Both services work on the same orders, so that one waits for the other now and then, and one of them
// leads. Spans go to standard output as JSON, and logs to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/fence"
	otellock "github.com/etcdlock/etcdlock/otel"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	host := flag.String("host", "127.0.0.1", "where the services serve their metrics")
	port := flag.Int("port", 9601, "port of the first service, and the next one is of the second; 0 is any port")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, *endpoints, *host, *port); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints, host string, port int) error {
	server, closeClient, err := devetcd.Connect(ctx, endpoints)
	if err != nil {
		return err
	}
	defer closeClient()
	orders := fence.NewMemory() // stands for the database that both services write to

	var all sync.WaitGroup
	failed := make(chan error, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, name := range []string{"billing-1", "billing-2"} {
		address := net.JoinHostPort(host, fmt.Sprint(max(port+i*min(port, 1), 0)))
		all.Go(func() {
			if err := serve(ctx, server.Endpoints(), name, address, orders); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
				cancel()
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

// serve is one service, with a client, metrics and spans of its own.
func serve(ctx context.Context, endpoints []string, name, address string, orders fence.Checker) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer client.Close()

	// Metrics.
	metrics, registry := promlock.New(), prometheus.NewRegistry()
	registry.MustRegister(metrics)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer web.Close()
	go func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
		}
	}()
	fmt.Fprintf(os.Stderr, "%s: metrics at http://%s/metrics\n", name, listener.Addr())

	// Spans.
	exporter, err := stdouttrace.New()
	if err != nil {
		return err
	}
	spans := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName(name))))
	defer func() { _ = spans.Shutdown(context.WithoutCancel(ctx)) }()
	telemetry, err := otellock.New(nil, spans) // the metrics are those above
	if err != nil {
		return err
	}

	logger := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("service", name)
	session, closeSession, err := devetcd.NewSession(ctx, client, etcdlock.WithOwner(name), etcdlock.WithSlog(logger),
		etcdlock.WithTrace(metrics.Trace(), telemetry.Trace(), etcdlock.LogTrace(logger)))
	if err != nil {
		return err
	}
	defer closeSession()
	metrics.Watch(session)
	return work(ctx, session, name, metrics.Fence("orders", orders))
}

// work has the service lead and lock until ctx ends.
func work(ctx context.Context, session *etcdlock.Session, name string, orders fence.Checker) error {
	var all sync.WaitGroup
	all.Go(func() {
		_ = etcdlock.NewElection(session, "examples/observed/scheduler").Run(ctx, name, func(ctx context.Context, _ *etcdlock.Term) error {
			<-ctx.Done()
			return nil
		})
	})
	defer all.Wait()
	for ctx.Err() == nil {
		order := fmt.Sprintf("examples/observed/orders/%d", rand.IntN(3))
		lock, err := etcdlock.NewMutex(session, order).Lock(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := orders.Check(lock.Context(), order, fence.Of(lock, 0)); err != nil {
			return err
		}
		pause(lock.Context(), rand.N(300*time.Millisecond))
		if err := lock.Unlock(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		pause(ctx, rand.N(300*time.Millisecond))
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
