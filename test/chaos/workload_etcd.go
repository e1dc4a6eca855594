package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// concurrent is etcd's own library, used with care: its holder looks at the session's
// Done, and makes a new session when that is closed.
type concurrent struct{ s *concurrency.Session }

// The context is not given to the session: it would end it later.
func openConcurrency(_ context.Context, c *clientv3.Client, ttl time.Duration) (session, error) {
	s, err := concurrency.NewSession(c, concurrency.WithTTL(int(ttl/time.Second)))
	if err != nil {
		return nil, err
	}
	return concurrent{s}, nil
}

func (c concurrent) acquire(ctx context.Context, kind, name string, weight int) (hold, error) {
	return concurrencyKinds[kind](ctx, c.s, name, weight)
}

func (c concurrent) ended() <-chan struct{}      { return c.s.Done() }
func (c concurrent) close(context.Context) error { return c.s.Close() }

type concurrentHold struct {
	s        *concurrency.Session
	revision int64 // the best fencing token that the library has
	name     string
	free     func(context.Context) error
}

func (h concurrentHold) token() int64                      { return h.revision }
func (h concurrentHold) key() string                       { return h.name }
func (h concurrentHold) lost() <-chan struct{}             { return h.s.Done() }
func (h concurrentHold) why() error                        { return nil }
func (h concurrentHold) release(ctx context.Context) error { return h.free(ctx) }

var concurrencyKinds = map[string]func(context.Context, *concurrency.Session, string, int) (hold, error){
	"mutex": func(ctx context.Context, s *concurrency.Session, name string, _ int) (hold, error) {
		m := concurrency.NewMutex(s, name)
		if err := m.Lock(ctx); err != nil {
			return nil, err
		}
		return concurrentHold{s, m.Header().Revision, m.Key(), m.Unlock}, nil
	},
	"election": func(ctx context.Context, s *concurrency.Session, name string, _ int) (hold, error) {
		e := concurrency.NewElection(s, name)
		if err := e.Campaign(ctx, "chaos"); err != nil {
			return nil, err
		}
		return concurrentHold{s, e.Rev(), e.Key(), e.Resign}, nil
	},
}
