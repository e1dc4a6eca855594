package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// request is what a call asks of the queue of a name. kind is part of its identity in this session,
// and want is what its key says to other sessions, nil for an exclusive lock.
func (c *mutexConfig) request(ctx context.Context, try bool, kind string, want *wire.Holder, rule *queue.Rule) local.Request {
	r := local.Request{
		Identity: kind + c.owner,
		Try:      try,
		Terms:    c.terms,
		Want:     want,
		Owner:    c.owner,
		Host:     hostname(),
		PID:      pid(),
		Short:    c.short,
		Carried:  local.CarriedBy(ctx),
		Rule:     rule,
		Cycle:    c.cycle,
	}
	if want != nil {
		r.Mode, r.Permits = want.Mode, want.Permits
	}
	return r
}

// exclusive is the request of a caller that wants to hold exclusively.
func (c *mutexConfig) exclusive(ctx context.Context, try bool) local.Request {
	return c.request(ctx, try, "lock ", nil, nil)
}

// shared is the request of a reader.
func (c *mutexConfig) shared(ctx context.Context, try bool) local.Request {
	return c.request(ctx, try, "read ", &wantsToShare, queue.Shared())
}

// wantsToShare is what the value of a reader says; never changed.
var wantsToShare = wire.Holder{Mode: wire.Shared}

// acquire waits for the grant of a name, and reports the call. It completes r.
func (s *Session) acquire(ctx context.Context, kind Kind, name string, r *local.Request) (hold, error) {
	if s == nil {
		return hold{}, errNotASession
	}
	c, ctx := s.cfg.tracer.start(ctx, AcquireStartInfo{Kind: kind, Name: name, Try: r.Try})
	c.ask(r)
	h, err := s.grant(ctx, name, *r)
	s.refused.count(err)
	h.traced = c.end(h.of, err)
	return h, err
}

// grant waits for the grant of a name.
func (s *Session) grant(ctx context.Context, name string, r local.Request) (hold, error) {
	if ctx.Err() != nil {
		return hold{}, lockerr.OfContext(ctx)
	}
	if err := s.usable(name); err != nil {
		return hold{}, err
	}
	if r.Candidate {
		r.Owner = s.cfg.owner
	}
	h, err := s.manager.Acquire(ctx, name, r)
	if err != nil {
		return hold{}, refusal(err)
	}
	if granted := s.cfg.Hooks.Granted; granted != nil {
		granted(hold{of: h}, []string{name})
	}
	return hold{of: h}, nil
}
