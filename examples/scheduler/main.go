// Command scheduler runs jobs in a service of many instances, on one of them at a time.
//
//	go run ./scheduler
//
// For more than one instance, give each the endpoints of one etcd. Stop the leader with
// Ctrl-C: it finishes the job that it is at, and only then the next one takes over. Kill
// it, and that takes one TTL:
//
//	go run ./scheduler -endpoints localhost:2379 -id host-a -http localhost:8081
//	go run ./scheduler -endpoints localhost:2379 -id host-b -http localhost:8082
//	curl localhost:8082/status
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/leaderhttp"
)

type settings struct {
	endpoints, name, id, http string
	every, takes              time.Duration
}

func main() {
	var set settings
	flag.StringVar(&set.endpoints, "endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	flag.StringVar(&set.name, "name", "examples/scheduler", "name of the election")
	flag.StringVar(&set.id, "id", fmt.Sprintf("pid-%d", os.Getpid()), "what this instance is called")
	flag.StringVar(&set.http, "http", "", "address for probes and the status (default: none)")
	flag.DurationVar(&set.every, "every", time.Second, "how often the job is due")
	flag.DurationVar(&set.takes, "takes", 300*time.Millisecond, "how long it takes")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, set); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, set settings) error {
	client, closeClient, err := devetcd.Connect(ctx, set.endpoints)
	if err != nil {
		return err
	}
	defer closeClient()
	// A job is given up when the term is lost, and the process has three quarters of the margin
	// for that before another one can lead.
	session, closeSession, err := devetcd.NewSession(ctx, client, etcdlock.WithOwner(set.id),
		etcdlock.WithTTL(15*time.Second), etcdlock.WithMargin(4*time.Second))
	if err != nil {
		return err
	}
	defer closeSession()

	var monitor etcdlock.Monitor
	closeProbes, err := serve(set.http, &monitor)
	if err != nil {
		return err
	}
	defer closeProbes()

	s := scheduler{settings: set}
	err = etcdlock.NewElection(session, set.name).Run(ctx, set.id, s.lead,
		etcdlock.WithMonitor(&monitor),
		etcdlock.WithOnRole(func(r etcdlock.Role) { fmt.Printf("%s is %v\n", set.id, r) }),
		// A job that hangs must not keep the leadership.
		etcdlock.WithProgress(10*(set.every+set.takes)),
		// A job that does not stop after the end of its context must not keep it either. The process
		// ends after this time, or after 3 s if the term is lost.
		etcdlock.WithStopTimeout(30*time.Second),
		etcdlock.WithOnStuck(func(stuck etcdlock.StuckTerm) {
			fmt.Fprintf(os.Stderr, "still at work %v after its context ended (%v):\n", stuck.After, stuck.Cause)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		}),
		etcdlock.WithExitWhenStuck(),
	)
	if ctx.Err() != nil {
		fmt.Printf("%s stops in order\n", set.id)
		return nil // told to stop: not a failure
	}
	return err
}

// scheduler is the work of a leader.
type scheduler struct{ settings }

// lead runs a job whenever it is due, until it is told to stop. A job that has begun is
// finished: the next leader begins only when lead has returned.
func (s *scheduler) lead(ctx context.Context, term *etcdlock.Term) error {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if err := s.job(term, n); err != nil {
			return err // fatal: Run resigns, and returns it
		}
		term.Progress()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			fmt.Printf("%s leads no more: %v\n", s.id, context.Cause(ctx))
			return nil
		}
	}
}

// job is one run of the job. It ends early only when the term is lost, because another process may
// be about to begin.
func (s *scheduler) job(term *etcdlock.Term, n int) error {
	fmt.Printf("%s begins job %d under token %d\n", s.id, n, term.Token())
	select {
	case <-time.After(s.takes):
		fmt.Printf("%s has done job %d\n", s.id, n)
	case <-term.Done():
		fmt.Printf("%s gives up job %d: %v\n", s.id, n, term.Err())
	}
	return nil
}

// serve serves the probes, if there is an address for them.
func serve(address string, monitor *etcdlock.Monitor) (closeServer func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: leaderhttp.Handler(monitor), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Print("probes: ", err)
		}
	}()
	fmt.Printf("probes at http://%s\n", listener.Addr())
	return func() { _ = server.Close(); <-ended }, nil
}
