package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ofPoll elects as Patroni does in its loop: one key under a lease, which the leader renews and the
// others look for in each round, a third of the TTL apart. Patroni's own defaults are 30 s and a round
// of 10 s. For a switchover an operator writes the name of the candidate into a second key: the leader
// finds it in its next round, ends its work and deletes the first key, and the candidate finds that in
// its next round. Patroni also wakes its loop by a watch of the first key, which this does not.
const ofPoll = "polled key"

// The keys of an election under its name.
const (
	leaderKey   = "/leader"
	failoverKey = "/failover"
)

// polled is one candidate.
type polled struct {
	*candidacy
	kv    *clientv3.Client
	lease clientv3.LeaseID
	name  string
	term  int64 // create revision of our key; 0 while we do not lead
}

func (c *candidacy) servePoll(ctx context.Context, client *clientv3.Client, o order, ready chan<- error) error {
	granted, err := client.Grant(ctx, int64(o.TTL/time.Second))
	ready <- err
	if err != nil {
		return err
	}
	p := &polled{candidacy: c, kv: client, lease: granted.ID, name: o.Name}
	rounds := time.NewTicker(o.TTL / 3)
	defer rounds.Stop()
	for {
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-rounds.C:
		case <-ctx.Done():
			c.ends()
			_, err := client.Revoke(context.Background(), p.lease)
			return err
		}
	}
}

// round renews the lease, and looks what has changed since the last round.
func (p *polled) round(ctx context.Context) error {
	if _, err := p.kv.KeepAliveOnce(ctx, p.lease); err != nil {
		return err
	}
	seen, err := p.kv.Txn(ctx).Then(clientv3.OpGet(p.name+leaderKey), clientv3.OpGet(p.name+failoverKey)).Commit()
	if err != nil {
		return err
	}
	leads, wanted := seen.Responses[0].GetResponseRange().Kvs, ""
	for _, kv := range seen.Responses[1].GetResponseRange().Kvs {
		wanted = string(kv.Value)
	}
	switch {
	case p.term != 0 && wanted != "" && wanted != p.value: // an operator wants another leader
		p.ends()
		mine := clientv3.Compare(clientv3.CreateRevision(p.name+leaderKey), "=", p.term)
		p.term = 0
		_, err := p.kv.Txn(ctx).If(mine).Then(clientv3.OpDelete(p.name + leaderKey)).Commit()
		return err
	case p.term != 0 || len(leads) > 0 || wanted != "" && wanted != p.value:
		return nil
	}
	free := clientv3.Compare(clientv3.CreateRevision(p.name+leaderKey), "=", 0)
	got, err := p.kv.Txn(ctx).If(free).Then(
		clientv3.OpPut(p.name+leaderKey, p.value, clientv3.WithLease(p.lease)), clientv3.OpDelete(p.name+failoverKey),
	).Commit()
	if err != nil || !got.Succeeded {
		return err
	}
	p.term = got.Header.Revision
	p.begins(reply{Token: p.term, Key: p.name + leaderKey})
	return nil
}

// valueOf is what this process proposes.
func valueOf() string { return fmt.Sprint(os.Getpid()) }
