package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

const electionName = "demo/election"

// candidate is the main loop of a service of which one instance leads. It ends
// with SIGTERM, and resigns then.
func candidate(ctx context.Context, p *player) error {
	err := etcdlock.NewElection(p.session, electionName).Run(ctx, p.name, func(ctx context.Context, term *etcdlock.Term) error {
		p.report(event{Kind: leads, Token: term.Token()})
		<-ctx.Done() // the work of a leader would be here
		return nil
	})
	if ctx.Err() == nil {
		return err // not told to end
	}
	p.report(event{Kind: resigned})
	return nil
}

// election is the scene of the candidates.
func (s *stage) election(ctx context.Context) error {
	s.report.scene("Election: a leader is killed, another one resigns", fmt.Sprintf(
		`   3 candidates, one of them leads. A lease of %v stands behind each: when the leader dies
   without a word, the lease has to run out before another one may lead.`, ttl))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the observer
	sightings := s.observe(ctx)

	hosts := map[string]*actor{}
	for i, name := range []string{"host-a", "host-b", "host-c"} {
		a, err := s.cast.start("candidate", name)
		if err != nil {
			return err
		}
		hosts[name] = a
		// One after the other, so that the order of the queue is known.
		if err := s.queued(ctx, electionName, i+1); err != nil {
			return err
		}
	}
	first, token1, err := s.newLeader(ctx, hosts, sightings)
	if err != nil {
		return err
	}
	s.report.line("leader is %s (token %d)", first.name, token1)

	began := time.Now()
	if err := first.signal(os.Kill); err != nil {
		return err
	}
	s.report.line("kill -9 %s (process %d)", first.name, first.pid())
	second, token2, err := s.newLeader(ctx, hosts, sightings)
	if err != nil {
		return err
	}
	killed := time.Since(began)
	s.report.line("leader is %s (token %d), %s later: the lease of %s had to run out first", second.name, token2, took(killed), first.name)
	s.report.promise(killed <= ttl+expirySlack, "a killed leader is replaced soon after its lease of "+ttl.String(), "after %s", took(killed))

	began = time.Now()
	if err := second.signal(terminate); err != nil {
		return err
	}
	s.report.line("kill -TERM %s (process %d), which resigns", second.name, second.pid())
	third, token3, err := s.newLeader(ctx, hosts, sightings)
	if err != nil {
		return err
	}
	handover := time.Since(began)
	s.report.line("leader is %s (token %d), %s later: a leader that resigns does not make others wait", third.name, token3, took(handover))
	s.report.promise(handover < ttl/2, "a leader that resigns is replaced at once", "after %s", took(handover))

	order := fmt.Sprintf("%s, %s, %s", first.name, second.name, third.name)
	s.report.promise(order == "host-a, host-b, host-c" && token1 < token2 && token2 < token3,
		"leaders follow in the order of the line, each with a larger token", "%s with tokens %d, %d, %d", order, token1, token2, token3)

	if _, err := second.expect(ctx, resigned); err != nil {
		return err
	}
	if err := errors.Join(second.wait(ctx), dismiss(ctx, third)); err != nil {
		return err
	}
	for {
		last, err := nextSighting(ctx, sightings)
		if err != nil {
			return err
		}
		if last.Vacant() {
			break
		}
	}
	s.report.line("%s resigns too: nobody leads, and the observer was told so", third.name)
	return nil
}

// sighting is what the observer in the parent process sees.
type sighting struct {
	etcdlock.Leader
	err error
}

// observe follows the election without being a candidate.
func (s *stage) observe(ctx context.Context) <-chan sighting {
	sightings := make(chan sighting)
	go func() {
		defer close(sightings)
		for leader, err := range etcdlock.NewElection(s.session, electionName).Observe(ctx) {
			select {
			case sightings <- sighting{leader, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sightings
}

func nextSighting(ctx context.Context, sightings <-chan sighting) (etcdlock.Leader, error) {
	select {
	case s, open := <-sightings:
		if !open {
			return etcdlock.Leader{}, errors.New("the observer ended before the election did")
		}
		return s.Leader, s.err
	case <-ctx.Done():
		return etcdlock.Leader{}, fmt.Errorf("waiting for the observer: %w", context.Cause(ctx))
	}
}

// newLeader returns when the observer has seen another leader, and that one
// knows it too.
func (s *stage) newLeader(ctx context.Context, hosts map[string]*actor, sightings <-chan sighting) (*actor, int64, error) {
	for {
		leader, err := nextSighting(ctx, sightings)
		if err != nil {
			return nil, 0, err
		}
		if leader.Vacant() {
			continue
		}
		host := hosts[leader.Value]
		if host == nil {
			return nil, 0, fmt.Errorf("the observer saw %q lead, which is no candidate", leader.Value)
		}
		e, err := host.expect(ctx, leads)
		return host, e.Token, err
	}
}

// queued returns when n processes hold or wait for a lock or an election. Each
// has one key under the name.
func (s *stage) queued(ctx context.Context, name string, n int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := s.client.Get(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if resp.Count == int64(n) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d entries in the queue of %s: %w", n, name, context.Cause(ctx))
		}
	}
}
