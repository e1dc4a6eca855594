package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Transfer ends the term and makes a waiting candidate the next leader, in one transaction. It is
// the candidate with that value, or the youngest one that lives if there are several, because a
// process that was killed and started again has an older entry too; see [Election.Candidates].
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
	to, err := t.candidate(ctx, candidate)
	switch {
	case err != nil:
		return err
	case to == nil:
		return ErrNoCandidate
	}
	t.transferred.Store(true)
	var handed error
	err = t.releaseBy(func() (err error) {
		handed, err = t.of.ReleaseTo(ctx, to)
		return err
	})
	if t.Err() == nil || errors.Is(err, ErrReleased) {
		t.transferred.Store(false)
	}
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

// candidate returns the entry of the candidate with a value that waits, nil if there is none. Of several
// it is the youngest one that lives.
func (t *Term) candidate(ctx context.Context, value string) (*mvccpb.KeyValue, error) {
	all, _, err := t.waiting(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(kv *mvccpb.KeyValue) bool { return string(kv.Value) != value })
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	for _, kv := range slices.Backward(all) {
		if t.lives(ctx, clientv3.LeaseID(kv.Lease)) {
			return kv, nil
		}
	}
	return all[len(all)-1], nil
}

// follows reports whether a candidate waits that may lead next, and lives: one with a value, or any for "".
func (t *Term) follows(ctx context.Context, value string) (bool, error) {
	all, paused, err := t.waiting(ctx)
	if err != nil || value == "" && paused { // a candidate ahead of the pause leads only if it is named
		return false, err
	}
	return slices.ContainsFunc(all, func(kv *mvccpb.KeyValue) bool {
		return (value == "" || string(kv.Value) == value) && lease.Lives(ctx, t.engine.Leases, clientv3.LeaseID(kv.Lease))
	}), nil
}

// waiting returns the candidates behind the leader, up to a pause.
func (t *Term) waiting(ctx context.Context) (all []*mvccpb.KeyValue, paused bool, err error) {
	if err := t.Err(); err != nil {
		return nil, false, err
	}
	all, err = t.of.Candidates(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, false, lockerr.OfContext(ctx)
	case t.Err() != nil:
		return nil, false, t.Err()
	case err != nil:
		return nil, false, err
	}
	for i, kv := range all {
		if paused = wire.Pauses(string(kv.Key)); paused {
			all = all[:i] // what waits behind the pause does not lead
			break
		}
	}
	return slices.DeleteFunc(all, func(kv *mvccpb.KeyValue) bool {
		return kv.Lease == 0 || kv.CreateRevision <= t.CreateRevision()
	}), paused, nil
}

var errHeldWithin = fmt.Errorf("%w: a lock of this name is held under the context of the term: unlock it first; the term continues", ErrLocked)

// AskToResign asks the leader to resign, and blocks until it has or ctx ends. The leader honours the
// request if its Run has [WithResignOnRequest]. Its work ends first, so no two leaders work at the
// same time. The session does not have to be a candidate. The leader may continue to stop after
// AskToResign has returned with an error.
//
// Errors:
//   - [ErrNoLeader]
//   - [ErrNotHonoured]: nothing was asked. Only an eviction ends the term from outside.
//   - [ErrNoCandidate]: nothing was asked, because no other candidate waits
//   - the error of ctx: the leader may resign later, or its work does not return
//   - for other errors see [Session.Ask]
func (e *Election) AskToResign(ctx context.Context, reason string) error {
	return opError("ask the leader to resign from", e.name, e.askLeader(ctx, "", reason))
}

// AskToTransfer asks the leader to resign in favour of a waiting candidate, by its value, and blocks
// until the leader has or ctx ends. It is like [Election.AskToResign] otherwise. The leader hands
// over as by [Term.Transfer], also to a candidate of a lower priority.
//
// Errors are those of AskToResign, and:
//   - [ErrNoCandidate]: the candidate does not wait, and the leader continues, unless the error says
//     that the leader has resigned and which candidate is next
//   - [ErrInvalidArgument]: the candidate is empty
func (e *Election) AskToTransfer(ctx context.Context, candidate, reason string) error {
	err := fmt.Errorf("%w: the candidate is empty", ErrInvalidArgument)
	if candidate != "" {
		err = e.askLeader(ctx, candidate, reason)
	}
	return opError(fmt.Sprintf("ask for a transfer to %s in", wire.Quote(candidate)), e.name, err)
}

func (e *Election) askLeader(ctx context.Context, candidate, reason string) error {
	if err := e.session.usable(e.name); err != nil {
		return err
	}
	r := e.session.newRequest(e.name, reason)
	r.Candidate = candidate
	return e.session.manager.AskLeader(ctx, r)
}
