// Command demo shows what etcdlock promises, on a real etcd, with processes
// that are killed and stopped for real.
//
//	go run ./demo
//
// It needs nothing but Go and a Unix system. It starts an etcd inside itself,
// and copies of itself as the processes that contend. It exits with 0 only if
// every promise was kept.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

// The tests, which run on busy machines too, give more time.
var (
	// ttl is the lease of the candidates and holders: the least that an etcd
	// with default settings grants, so that nobody waits for long.
	ttl = 2 * time.Second
	// expirySlack is the time, in addition to the TTL, until etcd deletes the
	// key of a dead process. etcd looks for expired leases twice a second, and
	// a busy machine needs more time.
	expirySlack = 2 * time.Second
	// patience bounds the whole demo, which takes about 7 seconds.
	patience = time.Minute
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(play(os.Args[1:])) // this is one of the processes: see cast.go
	}
	if !stopsProcesses {
		fmt.Fprintln(os.Stderr, "The demo stops and continues processes with Unix signals: run it on Linux, macOS or in WSL.")
		os.Exit(1)
	}
	// SIGPIPE: the reader of the output went away, as with "| head".
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not done after %v", patience))
	defer cancel()

	r := &report{out: os.Stdout}
	err := tell(ctx, r)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause // whatever else failed, failed because of this
	}
	if !r.close(err) {
		os.Exit(1)
	}
}

// stage is what the scenes of the demo are played on.
type stage struct {
	client   *clientv3.Client
	session  *etcdlock.Session // the parent observes and lists, it never holds
	resource *resource
	cast     *cast
	report   *report
}

// tell plays the scenes one after the other and leaves nothing behind. A scene
// writes a broken promise to the report. An error means that the demo could not
// continue.
func tell(ctx context.Context, r *report) (err error) {
	r.printf("etcdlock demo: an etcd, and separate processes that contend on it.")
	etcd, err := devetcd.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, etcd.Close()) }()
	client, err := devetcd.Dial(etcd.Endpoint())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSession(session)) }()
	res, err := openResource()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.close()) }()
	people := &cast{etcd: etcd.Endpoint(), resource: res.url()}
	defer people.kill() // first of all, on every way out
	r.printf("etcd listens on %s.", etcd.Endpoint())

	s := &stage{client: client, session: session, resource: res, cast: people, report: r}
	for _, scene := range []func(context.Context) error{s.counter, s.election, s.fencing} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// closeSession gives back what the session has, also when ctx is over.
func closeSession(session *etcdlock.Session) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return session.Close(ctx)
}
