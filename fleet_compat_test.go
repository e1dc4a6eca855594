package etcdlock_test

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/compat/concurrency"
)

// The compat package imports this one, so the fleet's tests, which lie inside this one, get it from here.
func init() {
	etcdlock.OpenCompat = func(client *clientv3.Client) (etcdlock.CompatSession, error) {
		s, err := concurrency.NewSession(client, concurrency.WithTTL(3))
		return compatSession{s}, err
	}
}

type compatSession struct{ *concurrency.Session }

func (s compatSession) Lock(ctx context.Context, name string) (etcdlock.CompatHold, func(context.Context) error, error) {
	m := concurrency.NewMutex(s.Session, name)
	if err := m.Lock(ctx); err != nil {
		return nil, nil, err
	}
	return m.Hold(), m.Unlock, nil
}

func (s compatSession) Campaign(ctx context.Context, name, value string) (etcdlock.CompatHold, func(context.Context) error, error) {
	e := concurrency.NewElection(s.Session, name)
	if err := e.Campaign(ctx, value); err != nil {
		return nil, nil, err
	}
	return e.Term(), e.Resign, nil
}
