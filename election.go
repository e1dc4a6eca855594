package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Election lets one of its candidates lead at a time. Like [Mutex] it is only a name and a session,
// with the same rules for names. An election and a mutex of one name exclude each other.
type Election struct {
	session *Session
	name    string
	cfg     electionConfig
}

// NewElection names an election. For names see [NewMutex].
func NewElection(s *Session, name string, opts ...ElectionOption) *Election {
	e := &Election{session: s, name: name}
	for _, o := range opts {
		o.applyElection(&e.cfg)
	}
	return e
}

// Name returns the name that the election was made with.
func (e *Election) Name() string { return e.name }

// Campaign waits in the queue to lead. Observers see its value, such as an address or a host name,
// while it leads. It blocks, and fails, as [Mutex.Lock] does. Goroutines of one session that
// campaign in one election take turns.
func (e *Election) Campaign(ctx context.Context, value string) (*Term, error) {
	if err := e.cfg.validate(); err != nil {
		return nil, opError("campaign in", e.name, err)
	}
	r := &local.Request{
		Identity:  "candidate " + value,
		Value:     func() string { return value }, // the proposal, byte for byte
		Candidate: true,
		Rank:      wire.Slot{Priority: e.cfg.priority, Takeover: e.cfg.takeover},
	}
	if e.session.usable(e.name) == nil {
		r.Owner = e.session.cfg.owner
		defer e.session.engine.WatchLeader(ctx, e.name)()
	}
	c := callOf(ctx, r, false)
	h, err := e.session.acquire(ctx, KindElection, e.name, &c)
	if err != nil {
		return nil, opError("campaign in", e.name, err)
	}
	t := &Term{hold: h, engine: e.session.engine, takeoverDelay: e.cfg.takeoverDelay}
	t.value.Store(&value)
	return t, nil
}
