package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

type locks struct{ s *etcdlock.Session }

func openEtcdlock(ctx context.Context, c *clientv3.Client, ttl time.Duration) (session, error) {
	s, err := etcdlock.NewSession(ctx, c, etcdlock.WithTTL(ttl))
	if err != nil {
		return nil, err
	}
	return locks{s}, nil
}

func (l locks) acquire(ctx context.Context, kind, name string, weight int) (hold, error) {
	return etcdlockKinds[kind](ctx, l.s, name, weight)
}

func (l locks) ended() <-chan struct{}          { return l.s.Done() }
func (l locks) close(ctx context.Context) error { return l.s.Close(ctx) }

// handle is a hold of one name.
type handle interface {
	etcdlock.Held
	Key() string
}

type held struct {
	handle
	free func(context.Context) error
}

func (h held) token() int64                      { return h.Token() }
func (h held) key() string                       { return h.Key() }
func (h held) lost() <-chan struct{}             { return h.Done() }
func (h held) why() error                        { return h.Err() }
func (h held) release(ctx context.Context) error { return h.free(ctx) }

var etcdlockKinds = map[string]func(context.Context, *etcdlock.Session, string, int) (hold, error){
	"mutex": func(ctx context.Context, s *etcdlock.Session, name string, _ int) (hold, error) {
		l, err := etcdlock.NewMutex(s, name).Lock(ctx)
		if err != nil {
			return nil, err
		}
		return held{l, l.Unlock}, nil
	},
	"election": func(ctx context.Context, s *etcdlock.Session, name string, _ int) (hold, error) {
		t, err := etcdlock.NewElection(s, name).Campaign(ctx, "chaos")
		if err != nil {
			return nil, err
		}
		return held{t, t.Resign}, nil
	},
	"run": func(ctx context.Context, s *etcdlock.Session, name string, _ int) (hold, error) {
		return lead(ctx, s, name)
	},
	"rwmutex": func(ctx context.Context, s *etcdlock.Session, name string, weight int) (hold, error) {
		m := etcdlock.NewRWMutex(s, name)
		if weight < slots {
			l, err := m.RLock(ctx)
			if err != nil {
				return nil, err
			}
			return held{l, l.Unlock}, nil
		}
		l, err := m.Lock(ctx)
		if err != nil {
			return nil, err
		}
		return held{l, l.Unlock}, nil
	},
	"semaphore": func(ctx context.Context, s *etcdlock.Session, name string, weight int) (hold, error) {
		p, err := etcdlock.NewSemaphore(s, name, permits).Acquire(ctx, weight)
		if err != nil {
			return nil, err
		}
		return held{p, p.Release}, nil
	},
}
