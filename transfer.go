package etcdlock

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Transfer ends the term and makes a candidate who waits the next leader, in one transaction:
// the one with that value, of several the one who came first; see [Election.Candidates]. Those
// ahead of him step to the end of the line when it would be their turn. A candidate of another
// library who is ahead knows nothing of that, and leads first. Who waits for this very session
// to have its turn, in memory, is not in line yet, and cannot be named.
//
// It blocks until etcd has confirmed it, or ctx ends, as [Term.Resign] does; work that must
// not overlap with the next leader's has to have ended before. [ErrNoCandidate] when nobody
// waits with that value: then the term goes on, unless it says that the term has ended, as
// the candidate left in that instant. [ErrLocked] while a lock of the same name is held under
// the context of the term: the term goes on. [ErrReleased] after a Resign, or another Transfer,
// that came first: it decides who is next. For other errors see [Lock.Unlock]; after
// [ErrUnconfirmed] the term is over, and it is not known whether the candidate is the next. After the error of ctx
// alone [Hold.Err] tells whether the term goes on.
func (t *Term) Transfer(ctx context.Context, candidate string) error {
	return opError(fmt.Sprintf("transfer to %s in", wire.Quote(candidate)), t.Name(), t.transfer(ctx, candidate))
}

func (t *Term) transfer(ctx context.Context, candidate string) error {
	if err := t.Err(); err != nil {
		return err
	}
	within, stop := t.within(ctx)
	all, err := t.tenure.line.single.AwaitList(within)
	stop()
	switch {
	case ctx.Err() != nil:
		return contextError(ctx)
	case t.Err() != nil:
		return t.Err()
	case err != nil:
		return err
	}
	var to *mvccpb.KeyValue
	for _, kv := range all {
		if to == nil && kv.Lease != 0 && kv.CreateRevision > t.entry.CreateRevision && string(kv.Value) == candidate {
			to = kv
		}
	}
	if to == nil {
		return ErrNoCandidate
	}
	handed, err := t.releaseTo(ctx, to)
	switch {
	case err != nil, handed == nil:
		return err
	case errors.Is(handed, queue.ErrNoTarget):
		return fmt.Errorf("the term has ended, and who is next in line leads: %w", ErrNoCandidate)
	case ctx.Err() != nil:
		return fmt.Errorf("the term has ended, and it is not known whether the candidate is next: %w", contextError(ctx))
	default:
		return fmt.Errorf("the term has ended, and who is next in line leads: %w", handed)
	}
}

var (
	errNotHanded  = errors.New("it ended before it was handed over")
	errHeldWithin = fmt.Errorf("%w: a lock of this name is held under the context of the term, which goes on: unlock it first", ErrLocked)
)
