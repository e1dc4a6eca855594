package etcdlock

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Outranked blocks until a candidate waits that is to take over from this leader, and returns
// who: one of a higher priority that has the option [WithTakeover], that has been in line for
// as long as the leader's own option says, and whose lease is renewed. Nothing happens by
// that; a leader that makes way calls [Term.Resign] when its work has ended, and then the one
// with the highest priority leads, be it this one or another. [Election.Run] does it by
// itself.
//
// While it blocks it watches the whole queue. The error is that of ctx; or that of
// [Hold.Err] when the term has ended; or what etcd refuses.
func (t *Term) Outranked(ctx context.Context) (Leader, error) {
	l, err := t.outranked(ctx)
	return l, opError("look out for a takeover of", t.tenure.line.name, err)
}

func (t *Term) outranked(ctx context.Context) (Leader, error) {
	if err := t.Err(); err != nil {
		return Leader{}, err
	}
	within, stop := t.within(ctx)
	defer stop()
	s := t.tenure.line.session
	kv, rev, err := s.queue(t.tenure.line.name).AwaitRival(within, t.entry, t.patience, s.lives)
	switch {
	case err == nil:
		return newLeader(queue.Head{First: kv, Rev: rev, Since: kv.CreateRevision}), nil
	case ctx.Err() != nil:
		return Leader{}, contextError(ctx)
	case t.Err() != nil:
		return Leader{}, t.Err()
	default:
		return Leader{}, err
	}
}

// lives tells whether a lease was renewed in the last half of its TTL, so that whoever has
// it is there, most likely. A session renews at a third.
func (s *Session) lives(ctx context.Context, id clientv3.LeaseID) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // it is asked again
	defer cancel()
	resp, err := s.leases.TimeToLive(ctx, id)
	return err == nil && 2*(resp.TTL+1) > resp.GrantedTTL // etcd cuts the TTL to whole seconds
}

// makeWay tells the function of a term to stop when somebody is to take over.
func (r *runner) makeWay(work context.Context, tell context.CancelCauseFunc, term *Term) {
	by, err := term.Outranked(work)
	switch {
	case err == nil:
		tell(fmt.Errorf("%w: %s", ErrOutranked, wire.Quote(by.Value)))
	case term.Err() == nil && work.Err() == nil: // the work may resign, or transfer the term
		r.log.Warn("cannot look out for candidates of a higher priority; leading on",
			zap.String("name", r.election.name), zap.Error(err))
	}
}
