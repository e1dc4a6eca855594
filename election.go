package etcdlock

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Election lets one of its candidates lead at a time. Like [Mutex] it is only a name and a session,
// with the same rules for names. An election and a mutex of one name exclude each other.
type Election struct {
	session *Session
	name    string
	cfg     electionConfig
}

// Term is one leadership of an [Election].
type Term struct {
	hold
	value    atomic.Pointer[string]
	progress leaderloop.Progress

	session       *Session
	takeoverDelay time.Duration // the takeover delay, see WithTakeover
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
	if e.session.usable(e.name) == nil {
		defer e.session.engine.WatchLeader(ctx, e.name)()
	}
	h, err := e.session.acquire(ctx, KindElection, e.name, lockmgr.Request{
		Identity:  "candidate " + value,
		Value:     func() string { return value }, // the proposal, byte for byte
		Carried:   lockmgr.CarriedBy(ctx),
		Candidate: true,
		Rank:      wire.Slot{Priority: e.cfg.priority, Takeover: e.cfg.takeover},
	})
	if err != nil {
		return nil, opError("campaign in", e.name, err)
	}
	t := &Term{hold: h, session: e.session, takeoverDelay: e.cfg.takeoverDelay}
	t.value.Store(&value)
	return t, nil
}

// Value returns the value that the leader proposed, or the last one that it proclaimed with
// success.
func (t *Term) Value() string {
	if v := t.value.Load(); v != nil {
		return *v
	}
	return ""
}

// Proclaim changes the leader's value for observers. The term and its place in the queue stay. It
// blocks until etcd has confirmed the value, ctx ends or the term ends.
//
// Errors:
//   - the error of ctx: it is unknown whether observers see the new value. The term continues, and
//     Proclaim or Resign may follow.
//   - [ErrLost], [ErrReleased] or [ErrSessionClosed]: the term is over, and nothing was written.
func (t *Term) Proclaim(ctx context.Context, value string) error {
	return opError("proclaim in", t.Name(), t.proclaim(ctx, value))
}

func (t *Term) proclaim(ctx context.Context, value string) error {
	if err := t.Err(); err != nil {
		return err
	}
	if err := t.of.Rewrite(ctx, value); err != nil {
		return err
	}
	t.value.Store(&value)
	return nil
}

// Resign ends the term, so that the next candidate can lead. It blocks as [Lock.Unlock] does, and
// its errors, such as [ErrUnconfirmed], have the same meaning. Work that must not overlap with the
// work of the next leader has to end before the call.
func (t *Term) Resign(ctx context.Context) error {
	return opError("resign from", t.Name(), t.release(ctx))
}
