package etcdlock

import (
	"context"
	"math/rand/v2"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// etcdsOwn is a client on etcd's own concurrency package.
type etcdsOwn struct {
	theirs
	f *deployment
}

func (s *etcdsOwn) name() string { return "etcd" }

func (s *etcdsOwn) claim(ctx context.Context, name string) (*fleetHold, <-chan struct{}, func(context.Context) error, error) {
	acquire := s.lock
	if name == "e" {
		acquire = func(ctx context.Context, name string, _ ...MutexOption) (claimed, error) {
			return s.campaign(ctx, name, "etcd")
		}
	}
	c, err := acquire(ctx, name)
	if err != nil {
		return nil, nil, nil, err
	}
	h := &fleetHold{name: name, who: "etcd", mode: wire.Exclusive, key: c.Key(), place: c.entry(), token: c.Token()}
	// Its Campaign and its Lock may return without the key. // traps A6, B1
	h.gone = c.entry() == 0
	return h, c.Done(), c.release, nil
}

// end closes the session, so that a key which a failed call has left does not stay. // trap A4
func (s *etcdsOwn) end(*rand.Rand) {
	_ = s.close(s.f.ctx)
	s.session = nil
}

// CompatHold is a hold of one name.
type CompatHold interface {
	Held
	Key() string
	CreateRevision() int64
}

// CompatSession is a session of the compat package, which cannot be imported here.
type CompatSession interface {
	Lock(ctx context.Context, name string) (CompatHold, func(context.Context) error, error)
	Campaign(ctx context.Context, name, value string) (CompatHold, func(context.Context) error, error)
	Orphan()
	Close() error
}

// OpenCompat opens a session with a TTL of 3 s.
var OpenCompat func(client *clientv3.Client) (CompatSession, error)

// compatible is a client on the compat package.
type compatible struct {
	f       *deployment
	client  *simetcd.Client
	session CompatSession
}

func (s *compatible) name() string { return "compat" }

func (s *compatible) claim(ctx context.Context, name string) (*fleetHold, <-chan struct{}, func(context.Context) error, error) {
	if s.session == nil {
		session, err := OpenCompat(s.client.Client)
		if err != nil {
			return nil, nil, nil, err
		}
		s.session = session
	}
	acquire := s.session.Lock
	if name == "e" {
		acquire = func(ctx context.Context, name string) (CompatHold, func(context.Context) error, error) {
			return s.session.Campaign(ctx, name, "compat")
		}
	}
	h, release, err := acquire(ctx, name)
	if err != nil {
		return nil, nil, nil, err
	}
	held := &fleetHold{name: name, who: "compat", mode: wire.Exclusive, key: h.Key(), place: h.CreateRevision(), token: h.Token(), err: h.held().Ended, look: h.Err}
	return held, h.Done(), release, nil
}

func (s *compatible) end(r *rand.Rand) {
	if s.session == nil {
		return
	}
	if r.IntN(4) == 3 {
		s.session.Orphan() // the lease runs out
	} else {
		_ = s.session.Close()
	}
	s.session = nil
}
