package main

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// probe asks every member, by itself and without any proxy, to renew a lease and to
// write, ten times a second. It records when no member answered. A loss or
// a delay in that time is due to neither library.
type probe struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	last [2]instant // when each kind of request was last answered
	away [2][]span  // and the times without an answer, except short ones
}

// The kinds of requests.
const (
	renewal = iota
	write
)

const (
	probeKey = "chaos-probe"
	blink    = 500 * time.Millisecond // a shorter absence is none
)

func startProbe(ctx context.Context, s *scene) (*probe, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel: cancel, last: [2]instant{now(), now()}}
	for _, m := range s.cluster.Members {
		c, err := s.cluster.Client(m.Endpoint)
		if err != nil {
			p.close()
			return nil, err
		}
		p.wg.Go(func() {
			defer c.Close()
			p.ask(ctx, c)
		})
	}
	return p, nil
}

func (p *probe) ask(ctx context.Context, c *clientv3.Client) {
	var lease clientv3.LeaseID
	defer func() {
		if lease != 0 {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_, _ = c.Revoke(end, lease) // it expires otherwise
		}
	}()
	for ctx.Err() == nil {
		p.try(ctx, renewal, func(ctx context.Context) error {
			if lease != 0 {
				if _, err := c.KeepAliveOnce(ctx, lease); err == nil {
					return nil
				}
			}
			l, err := c.Grant(ctx, 60)
			if err == nil {
				lease = l.ID
			}
			return err
		})
		p.try(ctx, write, func(ctx context.Context) error {
			_, err := c.Put(ctx, probeKey, "")
			return err
		})
		wait(ctx, 100*time.Millisecond)
	}
}

// try notes when a request was answered.
func (p *probe) try(ctx context.Context, what int, request func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, blink)
	defer cancel()
	if request(ctx) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := now()
	if at.sub(p.last[what]) > blink {
		p.away[what] = append(p.away[what], span{p.last[what], at})
	}
	p.last[what] = at
}

// close ends it; then the absences are complete.
func (p *probe) close() {
	p.cancel()
	p.wg.Wait()
}

// excuses tells whether a lease could not be renewed for so long, before the given
// time, that it had to be lost: the last renewal may have been sent a third of the TTL
// before.
func (p *probe) excuses(at instant, ttl time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, away := range p.away[renewal] {
		if away.to.sub(away.from) >= ttl/2 && at >= away.from && at <= away.to.add(ttl/10) {
			return true
		}
	}
	return false
}

// longest is the longest time without an answer to a kind of request.
func (p *probe) longest(what int) (d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.away[what] {
		d = max(d, s.to.sub(s.from))
	}
	return d
}
