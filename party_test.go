package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// party is what a worker of the simulation locks with: this library, or etcd's own as
// a control.
type party interface {
	lock(ctx context.Context, name string, opts ...MutexOption) (claim claimed, err error)
	tryLock(ctx context.Context, name string, opts ...MutexOption) (claimed, error)
	campaign(ctx context.Context, name, value string) (claimed, error)
	// leader is the CreateRevision of the leader's key, 0 for no leader.
	leader(ctx context.Context, name string) (int64, error)
	close(ctx context.Context) error
}

// claimed is a hold, as the referee and the workers see it.
type claimed interface {
	Key() string
	Token() int64
	Done() <-chan struct{}
	Err() error
	over() error  // Err without the look at the clock
	entry() int64 // the key's CreateRevision
	proclaim(ctx context.Context, value string) error
	release(ctx context.Context) error
}

// ours is a session of this library.
type ours struct{ session *Session }

func (p ours) lock(ctx context.Context, name string, opts ...MutexOption) (claimed, error) {
	l, err := NewMutex(p.session, name, opts...).Lock(ctx)
	if err != nil {
		return nil, err
	}
	return ourLock{l}, nil
}

func (p ours) tryLock(ctx context.Context, name string, opts ...MutexOption) (claimed, error) {
	l, err := NewMutex(p.session, name, opts...).TryLock(ctx)
	if err != nil {
		return nil, err
	}
	return ourLock{l}, nil
}

func (p ours) campaign(ctx context.Context, name, value string) (claimed, error) {
	t, err := NewElection(p.session, name).Campaign(ctx, value)
	if err != nil {
		return nil, err
	}
	return ourTerm{t}, nil
}

func (p ours) leader(ctx context.Context, name string) (int64, error) {
	l, err := NewElection(p.session, name).Leader(ctx)
	if errors.Is(err, ErrNoLeader) {
		return 0, nil
	}
	return l.CreateRevision, err
}

func (p ours) close(ctx context.Context) error { return p.session.Close(ctx) }

type ourLock struct{ *Lock }

func (l ourLock) entry() int64                           { return l.CreateRevision() }
func (l ourLock) proclaim(context.Context, string) error { return nil }
func (l ourLock) release(ctx context.Context) error      { return l.Unlock(ctx) }

type ourTerm struct{ *Term }

func (t ourTerm) entry() int64                                     { return t.CreateRevision() }
func (t ourTerm) proclaim(ctx context.Context, value string) error { return t.Proclaim(ctx, value) }
func (t ourTerm) release(ctx context.Context) error                { return t.Resign(ctx) }

// theirs is etcd's own concurrency package, used as its documentation says: a session
// that is over is replaced by another, and what it held is over with it.
type theirs struct {
	client  *simetcd.Client
	server  *simetcd.Server
	session *concurrency.Session
	end     context.CancelFunc
}

var errNoSession = errors.New("no session")

// alive makes sure of a session. Its context is bounded during the creation only.
func (p *theirs) alive(ctx context.Context) error {
	if p.session != nil {
		select {
		case <-p.session.Done():
			p.end()
		default:
			return nil
		}
	}
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	s, err := concurrency.NewSession(p.client.Client, concurrency.WithTTL(int(simTTL/time.Second)), concurrency.WithContext(life))
	if !stop() || err != nil || s == nil {
		end()
		p.session = nil
		return errors.Join(errNoSession, err)
	}
	p.session, p.end = s, end
	return nil
}

func (p *theirs) lock(ctx context.Context, name string, _ ...MutexOption) (claimed, error) {
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	m := concurrency.NewMutex(p.session, name)
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	return p.claimed(m.Key(), m.Header().Revision, m.Unlock), nil
}

func (p *theirs) tryLock(ctx context.Context, name string, _ ...MutexOption) (claimed, error) {
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	m := concurrency.NewMutex(p.session, name)
	if err := m.TryLock(ctx); err != nil {
		return nil, err
	}
	return p.claimed(m.Key(), m.Header().Revision, m.Unlock), nil
}

func (p *theirs) campaign(ctx context.Context, name, value string) (claimed, error) {
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	e := concurrency.NewElection(p.session, name)
	if err := e.Campaign(ctx, value); err != nil {
		return nil, err
	}
	return p.claimed(e.Key(), e.Rev(), e.Resign), nil
}

func (p *theirs) leader(ctx context.Context, name string) (int64, error) {
	if err := p.alive(ctx); err != nil {
		return 0, err
	}
	resp, err := concurrency.NewElection(p.session, name).Leader(ctx)
	switch {
	case errors.Is(err, concurrency.ErrElectionNoLeader):
		return 0, nil
	case err != nil:
		return 0, err
	default:
		return resp.Kvs[0].CreateRevision, nil
	}
}

func (p *theirs) close(context.Context) error {
	if p.session == nil {
		return nil
	}
	defer p.end()
	return p.session.Close()
}

func (p *theirs) claimed(key string, token int64, release func(context.Context) error) claimed {
	h := &theirHold{key: key, token: token, done: p.session.Done(), free: release}
	if kv := p.server.Get(key); kv != nil {
		h.created = kv.CreateRevision
	}
	return h
}

type theirHold struct {
	key            string
	token, created int64
	done           <-chan struct{}
	free           func(context.Context) error
}

func (h *theirHold) Key() string                            { return h.key }
func (h *theirHold) Token() int64                           { return h.token }
func (h *theirHold) Done() <-chan struct{}                  { return h.done }
func (h *theirHold) Err() error                             { return h.over() }
func (h *theirHold) entry() int64                           { return h.created }
func (h *theirHold) proclaim(context.Context, string) error { return nil }
func (h *theirHold) release(ctx context.Context) error      { return h.free(ctx) }

func (h *theirHold) over() error {
	select {
	case <-h.done:
		return fmt.Errorf("%w: its session is done", ErrLost)
	default:
		return nil
	}
}

// over is Err without the look at the clock.
func (h hold) over() error { return h.of.Ended() }
