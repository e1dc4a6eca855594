package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdlock/etcdlock"
)

// A switchover is a change of the leader that an operator asks for, from another process. etcd's
// Election has no such request: there the application of the leader is told on a way of its own, as
// by a signal, and resigns.

// switchOver has one operator ask once, and returns how long no process worked between the two terms.
// If t.whole it returns the time from the request until the next leader's work begins. after is how
// long the candidates have waited before.
func (e electorate) switchOver(t takeover, row, n int, after time.Duration) (time.Duration, error) {
	name := fmt.Sprintf("bench/switchovers/%d/%d", row, n)
	o := order{Do: doStand, Contestant: t.contestant, Where: e.where, Name: name, TTL: t.ttl, Honours: true}
	leader, began, err := e.elect(o)
	if err != nil {
		return 0, err
	}
	defer leader.Kill()
	heir, err := hire(e.kids)
	if err != nil {
		return 0, err
	}
	defer heir.Kill()
	stands, err := heir.tell(o)
	if err != nil {
		return 0, err
	}
	led := make(chan result, 1)
	go func() {
		r, err := heir.tell(order{Do: doLead})
		led <- result{r, err}
	}()
	time.Sleep(after)
	asked, request := clock.now(), make(chan error, 1)
	left, err := e.ask(leader, o, stands.Value, request)
	if err != nil {
		return 0, err
	}
	next := <-led
	err = errors.Join(next.err, <-request)
	switch {
	case err != nil:
		return 0, err
	case next.reply.At < left.At:
		return 0, fmt.Errorf("two work at one time, for %v", time.Duration(left.At-next.reply.At))
	case next.reply.Token <= began.Token:
		return 0, fmt.Errorf("token %d after %d", next.reply.Token, began.Token)
	case t.whole:
		return time.Duration(next.reply.At - asked), nil
	default:
		return time.Duration(next.reply.At - left.At), nil
	}
}

// ask asks the leader to make room for a candidate, and waits until its work has ended. What the
// request comes to is sent to outcome.
func (e electorate) ask(leader *hand, o order, to string, outcome chan<- error) (left reply, err error) {
	if o.Contestant == ofEtcd {
		left, err = leader.tell(order{Do: doResign}) // which ends the work first
		outcome <- nil
		return left, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	client, err := newClient(e.where.Etcd)
	if err != nil {
		cancel()
		return reply{}, err
	}
	go func() {
		defer client.Close()
		defer cancel()
		if o.Contestant == ofPoll {
			_, err := client.Put(ctx, o.Name+failoverKey, to)
			outcome <- err
			return
		}
		s, err := etcdlock.NewSession(ctx, client)
		if err == nil {
			err = errors.Join(etcdlock.NewElection(s, o.Name).AskToTransfer(ctx, to, "measured"), s.Close(ctx))
		}
		outcome <- err
	}()
	return leader.tell(order{Do: doLeft})
}
