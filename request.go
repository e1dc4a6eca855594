package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// request is what the calls of a handle ask of the queue of a name. kind is part of its identity in
// this session, and want is what its key says to other sessions, nil for an exclusive lock.
func (c *mutexConfig) request(kind string, want *wire.Holder, rule *queue.Rule) *local.Request {
	r := &local.Request{
		Identity: kind + c.owner,
		Terms:    c.terms,
		MaxHold:  c.most,
		Reentry:  c.reentry,
		Want:     want,
		Owner:    c.owner,
		Host:     hostname(),
		PID:      pid(),
		Short:    c.short,
		Rule:     rule,
		Cycle:    c.cycle,
	}
	if want != nil {
		r.Mode, r.Permits = want.Mode, want.Permits
	}
	return r
}

// exclusive is the request of a caller that wants to hold exclusively.
func (c *mutexConfig) exclusive() *local.Request { return c.request("lock ", nil, nil) }

// shared is the request of a reader.
func (c *mutexConfig) shared() *local.Request {
	return c.request("read ", &wantsToShare, queue.Shared())
}

// wantsToShare is what the value of a reader says; never changed.
var wantsToShare = wire.Holder{Mode: wire.Shared}

// callOf is a call with a request.
func callOf(ctx context.Context, r *local.Request, try bool) local.Call {
	return local.Call{Request: r, Try: try, Carried: local.CarriedBy(ctx)}
}

// acquire waits for the grant of a name, and reports the call. It completes c.
func (s *Session) acquire(ctx context.Context, kind Kind, name string, c *local.Call) (hold, error) {
	if s == nil {
		return hold{}, errNotASession
	}
	traced, ctx := s.cfg.tracer.start(ctx, AcquireStartInfo{Kind: kind, Name: name, Try: c.Try})
	traced.ask(c)
	h, err := s.grant(ctx, name, *c)
	s.refused.count(err)
	h.traced = traced.end(h.of, err)
	return h, err
}

// grant waits for the grant of a name.
func (s *Session) grant(ctx context.Context, name string, c local.Call) (hold, error) {
	if ctx.Err() != nil {
		return hold{}, lockerr.OfContext(ctx)
	}
	if err := s.usable(name); err != nil {
		return hold{}, err
	}
	h, err := s.manager.Acquire(ctx, name, c)
	if err != nil {
		return hold{}, refusal(err)
	}
	if granted := s.cfg.Hooks.Granted; granted != nil {
		granted(hold{of: h}, []string{name})
	}
	return hold{of: h}, nil
}
