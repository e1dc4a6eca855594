package etcdlock

import (
	"context"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// list reads the queue of a name.
func (s *Session) list(ctx context.Context, name string) ([]QueueEntry, error) {
	if err := s.usable(name); err != nil {
		return nil, opError("list the queue of", name, err)
	}
	ctx, stop := s.engine.Within(ctx)
	defer stop()
	kvs, _, err := s.etcd.Queues.Queue(name).List(ctx)
	if err != nil {
		return nil, opError("list the queue of", name, err)
	}
	contenders := queue.Contenders(name, kvs)
	entries := make([]QueueEntry, 0, len(contenders))
	for _, c := range contenders {
		entries = append(entries, contenderEntry(c))
	}
	return entries, nil
}

// Deadlocks reads all holders and waiters under a prefix, at one revision, and finds the cycles of
// waits among them. For each waiter in a cycle that holds something meanwhile, it returns the
// shortest cycle that includes the waiter. Entries in the queue between the two belong to the
// cycle. It blocks until etcd has answered, or ctx or the session ends.
//
// The entry of a waiter lists what the context of its call carries, see [WithDeadlockDetection].
// Deadlocks cannot see waits that are not recorded in etcd: those of other libraries, calls with a
// context that does not carry the caller's holds, candidates of an election, and a wait for another
// goroutine of the same session unless it has WithDeadlockDetection.
//
// Errors:
//   - the error of ctx
//   - [ErrSessionClosed]
//   - an error with which etcd refuses the request
func (s *Session) Deadlocks(ctx context.Context, prefix string) ([]Deadlock, error) {
	if err := s.usable("-"); err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), err)
	}
	ctx, stop := s.engine.Within(ctx)
	defer stop()
	kvs, err := queue.Snapshot(ctx, s.etcd.KV, prefix)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: find deadlocks under %s: %w", wire.Quote(prefix), err)
	}
	var found []Deadlock
	for _, c := range deadlock.Cycles(kvs) {
		found = append(found, newDeadlock(c))
	}
	return found, nil
}
