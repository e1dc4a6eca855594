package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// newClient is a client as a user makes it, but silent.
func newClient(endpoints []string, opts ...grpc.DialOption) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: 10 * time.Second,
		DialOptions: opts,
		Logger:      zap.NewNop(),
	})
}

// sessionMaker makes a library's session on a client.
type sessionMaker func(ctx context.Context, c *clientv3.Client, ttl time.Duration) (session, error)

type etcdLink struct {
	client *clientv3.Client
	make   sessionMaker
}

func etcdDialer(m sessionMaker) func(context.Context, servers) (link, error) {
	return func(_ context.Context, where servers) (link, error) {
		client, err := newClient(where.Etcd)
		if err != nil {
			return nil, err
		}
		return &etcdLink{client, m}, nil
	}
}

func (l *etcdLink) session(ctx context.Context, ttl time.Duration) (session, error) {
	return l.make(ctx, l.client, ttl)
}

func (l *etcdLink) close() { _ = l.client.Close() }

// closeTimeout bounds what is only tidying up.
const closeTimeout = 5 * time.Second

// etcd's own library.

type concurrent struct{ s *concurrency.Session }

func concurrencySession(ctx context.Context, c *clientv3.Client, ttl time.Duration) (session, error) {
	// The lease is granted here, as its own grant is bounded by no context but that
	// which also ends the session.
	lease, err := c.Grant(ctx, int64(ttl.Seconds()))
	if err != nil {
		return nil, err
	}
	s, err := concurrency.NewSession(c, concurrency.WithTTL(int(ttl.Seconds())), concurrency.WithLease(lease.ID))
	if err != nil {
		return nil, err
	}
	return &concurrent{s}, nil
}

func (c *concurrent) lease() clientv3.LeaseID { return c.s.Lease() }
func (c *concurrent) close()                  { _ = c.s.Close() }

func (c *concurrent) mutex(name string) mutex {
	return &concurrentMutex{concurrency.NewMutex(c.s, name)}
}

type concurrentMutex struct{ m *concurrency.Mutex }

func (m *concurrentMutex) lock(ctx context.Context) (hold, error) {
	if err := m.m.Lock(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *concurrentMutex) tryLock(ctx context.Context) (hold, error) {
	switch err := m.m.TryLock(ctx); {
	case errors.Is(err, concurrency.ErrLocked):
		return nil, errTaken
	case err != nil:
		return nil, err
	}
	return m, nil
}

func (m *concurrentMutex) token() int64                     { return m.m.Header().Revision }
func (m *concurrentMutex) unlock(ctx context.Context) error { return m.m.Unlock(ctx) }

func (c *concurrent) campaign(ctx context.Context, name string) (hold, error) {
	e := concurrency.NewElection(c.s, name)
	if err := e.Campaign(ctx, "bench"); err != nil {
		return nil, err
	}
	return concurrentTerm{e}, nil
}

type concurrentTerm struct{ e *concurrency.Election }

func (t concurrentTerm) token() int64                     { return t.e.Header().Revision }
func (t concurrentTerm) unlock(ctx context.Context) error { return t.e.Resign(ctx) }

// This library.

type locks struct {
	s    *etcdlock.Session
	opts []etcdlock.MutexOption
}

func etcdlockSession(opts ...etcdlock.MutexOption) sessionMaker {
	return func(ctx context.Context, c *clientv3.Client, ttl time.Duration) (session, error) {
		s, err := etcdlock.NewSession(ctx, c, etcdlock.WithTTL(ttl))
		if err != nil {
			return nil, err
		}
		return &locks{s, opts}, nil
	}
}

func (l *locks) lease() clientv3.LeaseID { return l.s.Lease() }

func (l *locks) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = l.s.Close(ctx)
}

func (l *locks) mutex(name string) mutex {
	return lockMutex{etcdlock.NewMutex(l.s, name, l.opts...)}
}

type lockMutex struct{ m *etcdlock.Mutex }

func (m lockMutex) lock(ctx context.Context) (hold, error) {
	l, err := m.m.Lock(ctx)
	if err != nil {
		return nil, err
	}
	return lockHold{l}, nil
}

func (m lockMutex) tryLock(ctx context.Context) (hold, error) {
	l, err := m.m.TryLock(ctx)
	switch {
	case errors.Is(err, etcdlock.ErrLocked):
		return nil, errTaken
	case err != nil:
		return nil, err
	}
	return lockHold{l}, nil
}

type lockHold struct{ l *etcdlock.Lock }

func (h lockHold) token() int64                     { return h.l.Token() }
func (h lockHold) unlock(ctx context.Context) error { return h.l.Unlock(ctx) }

func (l *locks) campaign(ctx context.Context, name string) (hold, error) {
	t, err := etcdlock.NewElection(l.s, name).Campaign(ctx, "bench")
	if err != nil {
		return nil, err
	}
	return termHold{t}, nil
}

type termHold struct{ t *etcdlock.Term }

func (h termHold) token() int64                     { return h.t.Token() }
func (h termHold) unlock(ctx context.Context) error { return h.t.Resign(ctx) }
