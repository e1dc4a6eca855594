package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

// player has the name of a role and the addresses that it uses.
type player struct {
	name     string
	client   *clientv3.Client
	session  *etcdlock.Session
	resource string // URL
	*console
}

// roles are what the processes of the demo can be.
var roles = map[string]func(context.Context, *player) error{
	"worker":    worker,
	"candidate": candidate,
	"holder":    holder,
}

// play is the main function of the processes: role, name, etcd, resource. It
// returns the exit code.
func play(args []string) int {
	if len(args) != 4 || roles[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "The demo takes no arguments; got %q.\n", args)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), terminate)
	defer stop()
	c := openConsole(os.Stdin, os.Stdout, func() { os.Exit(1) })
	if err := perform(ctx, c, args[0], args[1], args[2], args[3]); err != nil {
		c.report(event{Kind: failed, Reason: err.Error()})
		return 1
	}
	return 0
}

func perform(ctx context.Context, c *console, role, name, etcd, resource string) (err error) {
	client, err := devetcd.Dial(etcd)
	if err != nil {
		return err
	}
	defer client.Close()

	creation, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	session, err := etcdlock.NewSession(creation, client, etcdlock.WithTTL(ttl), etcdlock.WithOwner(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSession(session)) }()
	return roles[role](ctx, &player{name, client, session, resource, c})
}
