package etcdlock

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Transfer ends the term and makes a waiting candidate the next leader, in one transaction. It is
// the candidate with that value, or the oldest one if there are several; see [Election.Candidates].
// Candidates ahead of it move to the end of the queue when they reach the front. A candidate that
// uses another library does not do this and leads first. A goroutine that waits for the turn of
// this session, in memory, is not in the queue yet, and cannot be named.
//
// It blocks until etcd has confirmed the transfer, or ctx ends, as [Term.Resign] does. Work that
// must not overlap with the work of the next leader has to end before the call.
//
// Errors:
//   - [ErrNoCandidate]: no candidate with that value waits. The term continues, unless the error
//     says that the term has ended because the candidate left in that instant.
//   - [ErrLocked]: a lock of the same name is held under the context of the term, which continues.
//   - [ErrReleased]: a Resign or another Transfer came first, and decides which candidate is next.
//   - [ErrUnconfirmed]: the term is over, and it is unknown whether the candidate is next.
//   - the error of ctx alone: [Held.Err] says whether the term continues.
//   - for other errors see [Lock.Unlock]
func (t *Term) Transfer(ctx context.Context, candidate string) error {
	return opError(fmt.Sprintf("transfer to %s in", wire.Quote(candidate)), t.Name(), t.transfer(ctx, candidate))
}

func (t *Term) transfer(ctx context.Context, candidate string) error {
	if err := t.Err(); err != nil {
		return err
	}
	all, err := t.of.Candidates(ctx)
	switch {
	case ctx.Err() != nil:
		return lockerr.OfContext(ctx)
	case t.Err() != nil:
		return t.Err()
	case err != nil:
		return err
	}
	var to *mvccpb.KeyValue
	for _, kv := range all {
		if to == nil && kv.Lease != 0 && kv.CreateRevision > t.CreateRevision() && string(kv.Value) == candidate {
			to = kv
		}
	}
	if to == nil {
		return ErrNoCandidate
	}
	var handed error
	err = t.releaseBy(func() (err error) {
		handed, err = t.of.ReleaseTo(ctx, to)
		return err
	})
	switch {
	case errors.Is(err, lockmgr.ErrHeldWithin):
		return errHeldWithin
	case err != nil, handed == nil:
		return err
	case errors.Is(handed, queue.ErrNoTarget):
		return fmt.Errorf("the term has ended, and the next candidate in the queue leads: %w", ErrNoCandidate)
	case ctx.Err() != nil:
		return fmt.Errorf("the term has ended, but etcd has not confirmed that the candidate leads next: %w", lockerr.OfContext(ctx))
	default:
		return fmt.Errorf("the term has ended, and the next candidate in the queue leads: %w", handed)
	}
}

var errHeldWithin = fmt.Errorf("%w: a lock of this name is held under the context of the term: unlock it first; the term continues", ErrLocked)
