package gocronlock_test

import (
	"context"
	"log"
	"time"

	"github.com/go-co-op/gocron/v2"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	gocronlock "github.com/etcdlock/etcdlock/adapters/gocron"
)

// One process of all runs the jobs; another takes over when it is gone.
func ExampleElector() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	elector := gocronlock.NewElector(ctx, session, "scheduler", "host-a")
	defer elector.Close(ctx) // after the scheduler

	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = scheduler.Shutdown() }()
	_, err = scheduler.NewJob(gocron.DurationJob(time.Minute), gocron.NewTask(func() {
		term := elector.Term()
		if term == nil {
			return // lost in this instant
		}
		report(term.Context(), term.Token())
	}))
	if err != nil {
		log.Fatal(err)
	}
	scheduler.Start()
}

// Each run of a job goes to the process that comes first.
func ExampleLocker() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	locker := gocronlock.NewLocker(session)
	scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = scheduler.Shutdown() }()
	_, err = scheduler.NewJob(gocron.CronJob("0 4 * * *", false), gocron.NewTask(func() {
		run := locker.Held("report")
		report(run.Context(), run.Token())
	}), gocron.WithName("report"))
	if err != nil {
		log.Fatal(err)
	}
	scheduler.Start()
}

// report stops when ctx ends, and sends the token along with what it writes.
func report(ctx context.Context, token int64) {}
