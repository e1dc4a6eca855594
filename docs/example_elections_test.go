package docs

import (
	"context"
	"log"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/leaderhttp"
)

func schedule(ctx context.Context, client *clientv3.Client,
	work func(context.Context, *etcdlock.Term) error, check func(context.Context) error) error {
	// Work returns within 3 s of the end of its context, or the process ends. After a loss it has
	// three quarters of the margin for that, before another process can lead.
	session, err := etcdlock.NewSession(ctx, client,
		etcdlock.WithTTL(15*time.Second),   // a crashed leader is replaced after it
		etcdlock.WithMargin(4*time.Second)) // this process ends the term this much earlier
	if err != nil {
		return err
	}
	defer session.Close(ctx)

	var monitor etcdlock.Monitor
	go func() { log.Println(http.ListenAndServe(":8080", leaderhttp.Handler(&monitor))) }() // probes and a status

	return etcdlock.NewElection(session, "scheduler").Run(ctx, "host-a:8080", work,
		etcdlock.WithStopTimeout(3*time.Second), // three quarters of the margin
		etcdlock.WithExitWhenStuck(),            // code 70, if work runs on after that
		etcdlock.WithProgress(time.Minute),      // work calls term.Progress()
		etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: time.Second, Failures: 3, Check: check}),
		etcdlock.WithMonitor(&monitor))
}

var _ = schedule
