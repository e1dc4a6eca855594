package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// Two that stand in elections, beside ofPoll.
const (
	ofEtcd = "etcd's Election"
	ofOurs = "etcdlock"
)

// candidacy is a worker's in one election. It has what a service would have: etcdlock's
// Run, and a campaign in a goroutine for etcd's own library.
type candidacy struct {
	value string // that it proposes
	leads chan reply
	works bool       // true from begins to ends
	stops chan reply // when its work has ended
	quit  context.CancelFunc
	ended chan error
}

// begins and ends tell when the work of a term begins and ends.
func (c *candidacy) begins(r reply) {
	c.works, r.At = true, clock.now()
	c.leads <- r
}

func (c *candidacy) ends() {
	if c.works {
		c.works = false
		c.stops <- reply{At: clock.now()}
	}
}

func stand(ctx context.Context, o order) (*candidacy, error) {
	client, err := newClient(o.Where.Etcd)
	if err != nil {
		return nil, err
	}
	c := &candidacy{value: valueOf(), leads: make(chan reply, 1), stops: make(chan reply, 1), ended: make(chan error, 1)}
	serve := c.serveOurs
	switch o.Contestant {
	case ofEtcd:
		serve = c.serveEtcd
	case ofPoll:
		serve = c.servePoll
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
	var run []etcdlock.RunOption
	if o.Honours {
		run = append(run, etcdlock.WithResignOnRequest())
	}
	err = etcdlock.NewElection(s, o.Name).Run(ctx, c.value, func(ctx context.Context, term *etcdlock.Term) error {
		c.begins(reply{Token: term.Token(), Key: term.Key()})
		<-ctx.Done()
		c.ends()
		return nil
	}, run...)
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
	if err := e.Campaign(ctx, c.value); err != nil {
		return err
	}
	c.begins(reply{Token: e.Header().Revision, Key: e.Key()})
	<-ctx.Done()
	c.ends()
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

// left waits until its work has ended.
func (c *candidacy) left(ctx context.Context) (reply, error) {
	select {
	case r := <-c.stops:
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// resign ends it, in order, and returns when its work has ended.
func (c *candidacy) resign(ctx context.Context) (reply, error) {
	c.quit()
	select {
	case err := <-c.ended:
		if err != nil {
			return reply{}, err
		}
		return c.left(ctx)
	case <-ctx.Done():
		return reply{}, ctx.Err()
	case <-time.After(30 * time.Second):
		return reply{}, errors.New("it does not end")
	}
}
