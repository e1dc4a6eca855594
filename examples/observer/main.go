// Command observer follows the leader of an election without being a candidate,
// like a proxy, a dashboard or a client of the leader.
//
//	go run ./observer
//	go run ./observer -endpoints localhost:2379 -name examples/leader
//
// Without endpoints there would be no leader, so two candidates in the
// background take turns.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	name := flag.String("name", "examples/leader", "name of the election")
	turn := flag.Duration("turn", time.Second, "without endpoints: how long each candidate leads")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *endpoints, *name, *turn); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints, name string, turn time.Duration) error {
	client, closeClient, err := devetcd.Connect(ctx, endpoints)
	if err != nil {
		return err
	}
	defer closeClient()

	if endpoints == "" {
		var candidates sync.WaitGroup
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer func() { stop(); candidates.Wait() }() // they end before the etcd does
		for _, id := range []string{"host-a", "host-b"} {
			candidates.Go(func() {
				if err := takeTurns(ctx, client, name, id, turn); err != nil && ctx.Err() == nil {
					log.Printf("%s: %v", id, err)
				}
			})
		}
	}

	session, closeSession, err := devetcd.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer closeSession()

	// The present state comes first, then every change. The loop outlives
	// reconnections and compactions; it ends with ctx, or with an error that
	// is final.
	for leader, err := range etcdlock.NewElection(session, name).Observe(ctx) {
		switch {
		case err != nil:
			return err
		case leader.Vacant():
			fmt.Println("nobody leads")
		default:
			fmt.Printf("%s leads\n", leader.Value)
		}
	}
	return nil
}

// takeTurns leads for one turn, pauses for one and a half, and again: of two
// candidates one follows the other, and then there is a gap.
func takeTurns(ctx context.Context, client *clientv3.Client, name, id string, turn time.Duration) error {
	session, closeSession, err := devetcd.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer closeSession()
	election := etcdlock.NewElection(session, name)
	for {
		err := election.Run(ctx, id, func(ctx context.Context, _ *etcdlock.Term) error {
			return pause(ctx, turn)
		})
		if err != nil {
			return err
		}
		if err := pause(ctx, turn*3/2); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
