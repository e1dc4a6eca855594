// Command replica is one of a pair of servers: the primary takes writes, the other one
// serves reads and stands by. A load balancer in front finds the primary by its /leader
// probe.
//
//	go run ./replica
//
// Without endpoints it starts both servers and a client that does as a load balancer
// would, lets each primary step down after a while, and shows where the writes go. Alone
// it is one server:
//
//	go run ./replica -endpoints localhost:2379 -id a -listen localhost:8081
//	go run ./replica -endpoints localhost:2379 -id b -listen localhost:8082
//	curl -i localhost:8081/leader
//	curl -X POST -d hello localhost:8081/note; curl localhost:8082/note
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

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program, and the whole pair)")
	name := flag.String("name", "examples/replica", "name of the election")
	id := flag.String("id", fmt.Sprintf("pid-%d", os.Getpid()), "what this server is called")
	listen := flag.String("listen", "127.0.0.1:0", "address of this server")
	turn := flag.Duration("turn", 2*time.Second, "without endpoints: how long each is primary")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, closeClient, err := devetcd.Connect(ctx, *endpoints)
	if err != nil {
		log.Fatal(err)
	}
	if *endpoints != "" {
		err = one(ctx, client, *name, *id, *listen)
	} else {
		err = pair(ctx, client, *name, *turn)
	}
	closeClient()
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// one is one server of the pair.
func one(ctx context.Context, client *clientv3.Client, name, id, listen string) error {
	s, err := newServer(client, id, listen)
	if err != nil {
		return err
	}
	fmt.Printf("%s serves http://%s\n", id, s.address)
	return s.run(ctx, name, 0)
}

// pair is both of them, and the client.
func pair(ctx context.Context, client *clientv3.Client, name string, turn time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 3)
	var addresses []string
	for _, id := range []string{"a", "b"} {
		s, err := newServer(client, id, "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses = append(addresses, s.address)
		go func() { ended <- s.run(ctx, name, turn) }()
	}
	go func() { ended <- write(ctx, addresses) }()
	err := <-ended
	stop()  // whichever ends first ends all
	<-ended //nolint:errcheck // the first one counts
	<-ended //nolint:errcheck // the first one counts
	return err
}
