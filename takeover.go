package etcdlock

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// AwaitPreemption blocks until a candidate is entitled to preempt this leader, and returns that
// candidate: it has a higher priority and the option [WithTakeover], it has been in the queue for
// as long as the leader's own option says, and its lease is renewed. AwaitPreemption does not end
// the term. A leader that wants to step down finishes its work and calls [Term.Resign]; then the
// candidate of the highest priority leads, which may be another one by that time. [Election.Run]
// does all of this by itself.
//
// It watches the whole queue while it blocks. The term continues after an error of ctx or of etcd.
//
// Errors:
//   - the error of ctx
//   - the error of [Held.Err] if the term has ended
//   - an error with which etcd refuses the request
func (t *Term) AwaitPreemption(ctx context.Context) (Candidate, error) {
	c, err := t.awaitPreemption(ctx)
	return c, opError("look out for a takeover of", t.Name(), err)
}

func (t *Term) awaitPreemption(ctx context.Context) (Candidate, error) {
	if err := t.Err(); err != nil {
		return Candidate{}, err
	}
	within, stop := t.of.Within(ctx)
	defer stop()
	kv, err := t.engine.Queues.Queue(t.Name()).AwaitChallenger(within, t.of.Entry(), t.takeoverDelay, t.lives)
	switch {
	case err == nil:
		return newCandidate(kv, false, false), nil
	case ctx.Err() != nil:
		return Candidate{}, lockerr.OfContext(ctx)
	case t.Err() != nil:
		return Candidate{}, t.Err()
	default:
		return Candidate{}, err
	}
}

// lives reports whether the process of a candidate most likely lives, by its lease.
func (t *Term) lives(ctx context.Context, id clientv3.LeaseID) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // it is asked again
	defer cancel()
	return lease.Lives(ctx, t.engine.Leases, id)
}
