package etcdlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/leaderhttp"
)

// What a service in production adds: bounds for its work, its health, and probes.
func ExampleWithMonitor() {
	ctx, shutDown := context.WithCancel(context.Background())
	defer shutDown()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(15*time.Second), etcdlock.WithMargin(4*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	var monitor etcdlock.Monitor
	probes := httptest.NewServer(leaderhttp.Handler(&monitor)) // http.ListenAndServe(":8080", ...)
	defer probes.Close()

	err = etcdlock.NewElection(session, "billing").Run(ctx, "host-a:8080",
		func(ctx context.Context, term *etcdlock.Term) error {
			term.Progress() // now and then
			resp, err := http.Get(probes.URL + "/leader")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			fmt.Println(resp.StatusCode, resp.Header.Get(leaderhttp.LeaderHeader))
			shutDown() // as SIGTERM would
			<-ctx.Done()
			return nil
		},
		etcdlock.WithMonitor(&monitor),
		etcdlock.WithStopTimeout(3*time.Second), // three quarters of the margin, which is what work has after a loss
		etcdlock.WithExitWhenStuck(),
		etcdlock.WithProgress(time.Minute),
		etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: time.Second, Failures: 3, Check: func(context.Context) error { return nil }}),
	)
	if !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	fmt.Println(monitor.Status().Role)
	// Output:
	// 200 host-a:8080
	// observer
}
