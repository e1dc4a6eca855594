// Command leader is the main loop of a service of which one instance at a time
// does the work.
//
//	go run ./leader
//
// For more than one instance, give each the endpoints of one etcd, and stop the
// leader with Ctrl-C to see the next one take over:
//
//	go run ./leader -endpoints localhost:2379 -id host-a
//	go run ./leader -endpoints localhost:2379 -id host-b
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	name := flag.String("name", "examples/leader", "name of the election")
	id := flag.String("id", fmt.Sprintf("pid-%d", os.Getpid()), "what the leader is called")
	every := flag.Duration("every", time.Second, "how often the leader works")
	flag.Parse()

	// The service stops at Ctrl-C, and when a service manager asks it to.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From then on a second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	if err := run(ctx, *endpoints, *name, *id, *every); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints, name, id string, every time.Duration) error {
	client, closeClient, err := devetcd.Connect(ctx, endpoints)
	if err != nil {
		return err
	}
	defer closeClient()

	// Bounded, so that a service with a wrong address says so. The session
	// itself lives until Close.
	creation, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	session, err := etcdlock.NewSession(creation, client, etcdlock.WithOwner(id))
	if err != nil {
		return err
	}
	defer func() {
		// After a signal ctx has ended. Close then makes one attempt, of a second at most.
		if err := session.Close(ctx); err != nil {
			log.Print("close session: ", err)
		}
	}()

	fmt.Printf("%s is a candidate for %s\n", id, name)
	// Run waits in the queue, calls the function while this candidate leads,
	// and campaigns again after a loss. It resigns only after the function has
	// returned, so that two leaders never work at once.
	err = etcdlock.NewElection(session, name).Run(ctx, id, func(ctx context.Context, term *etcdlock.Term) error {
		return lead(ctx, term, every)
	})
	if ctx.Err() != nil {
		fmt.Printf("%s has resigned and stops\n", id)
		return nil // told to stop: not a failure
	}
	return err
}

// lead does the work of one term. Its context ends with the term, whether that
// was lost or the service stops: lead must return soon after.
func lead(ctx context.Context, term *etcdlock.Term, every time.Duration) error {
	fmt.Printf("%s leads with token %d, in term %d\n", term.Value(), term.Token(), term.CreateRevision())
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
			// What the work writes carries term.Token(), so that the
			// receiver can refuse a leader of the past: see the lock example.
			fmt.Printf("%s works: job %d under token %d\n", term.Value(), n, term.Token())
		case <-ctx.Done():
			fmt.Printf("%s leads no more: %v\n", term.Value(), context.Cause(ctx))
			return nil
		}
	}
}
