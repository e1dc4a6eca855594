package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// The two that stand in elections.
const (
	ofEtcd = "etcd's Election"
	ofOurs = "etcdlock"
)

// candidacy is a worker's in one election. It has what a service would have: etcdlock's
// Run, and a campaign in a goroutine for etcd's own library.
type candidacy struct {
	leads chan reply
	quit  context.CancelFunc
	ended chan error
}

func stand(ctx context.Context, o order) (*candidacy, error) {
	client, err := newClient(o.Where.Etcd)
	if err != nil {
		return nil, err
	}
	c := &candidacy{leads: make(chan reply, 1), ended: make(chan error, 1)}
	serve := c.serveOurs
	if o.Contestant == ofEtcd {
		serve = c.serveEtcd
	}
	running, quit := context.WithCancel(context.Background())
	c.quit = quit
	ready := make(chan error, 1)
	go func() {
		err := serve(running, client, o, ready)
		c.ended <- errors.Join(err, client.Close())
	}()
	select {
	case err := <-ready:
		return c, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *candidacy) serveOurs(ctx context.Context, client *clientv3.Client, o order, ready chan<- error) error {
	opts := []etcdlock.SessionOption{etcdlock.WithTTL(o.TTL)}
	if o.Detect {
		opts = append(opts, etcdlock.WithCrashDetection("127.0.0.1:0"))
	}
	if o.File != "" {
		opts = append(opts, etcdlock.WithLeaseFile(o.File))
	}
	s, err := etcdlock.NewSession(ctx, client, opts...)
	ready <- err
	if err != nil {
		return err
	}
	err = etcdlock.NewElection(s, o.Name).Run(ctx, fmt.Sprint(os.Getpid()), func(ctx context.Context, term *etcdlock.Term) error {
		c.leads <- reply{At: clock.now(), Token: term.Token(), Key: term.Key()}
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return s.Close(context.Background())
}

func (c *candidacy) serveEtcd(ctx context.Context, client *clientv3.Client, o order, ready chan<- error) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(int(o.TTL.Seconds())))
	ready <- err
	if err != nil {
		return err
	}
	e := concurrency.NewElection(s, o.Name)
	if err := e.Campaign(ctx, fmt.Sprint(os.Getpid())); err != nil {
		return err
	}
	c.leads <- reply{At: clock.now(), Token: e.Header().Revision, Key: e.Key()}
	<-ctx.Done()
	return errors.Join(e.Resign(context.Background()), s.Close())
}

// lead waits until it leads.
func (c *candidacy) lead(ctx context.Context) (reply, error) {
	select {
	case r := <-c.leads:
		return r, nil
	case err := <-c.ended:
		return reply{}, fmt.Errorf("it does not campaign any more: %w", err)
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// resign ends it, in order.
func (c *candidacy) resign(ctx context.Context) error {
	c.quit()
	select {
	case err := <-c.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
		return errors.New("it does not end")
	}
}
