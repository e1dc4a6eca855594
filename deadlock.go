package etcdlock

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Deadlock is a cycle of waits. The waiter of each edge waits for an entry of the waiter of the
// next edge, and the waiter of the last edge for an entry of the first.
type Deadlock []DeadlockEdge

// DeadlockEdge is one wait of a [Deadlock].
type DeadlockEdge struct {
	Waiter QueueEntry // the waiting entry; its Holds are the keys that its owner holds meanwhile
	For    QueueEntry // the entry that keeps it out: a key that the next waiter holds, or waits with
}

// String returns the cycle in one line, waiter by waiter.
func (d Deadlock) String() string {
	var b strings.Builder
	for i, w := range d {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, pid %d) ", w.Waiter.Owner, w.Waiter.Host, w.Waiter.PID)
		if w.Waiter.Key == "" {
			fmt.Fprintf(&b, "would wait for %s, which the context of its call holds", wire.Quote(w.For.Key))
			continue
		}
		fmt.Fprintf(&b, "waits with %s for %s", wire.Quote(w.Waiter.Key), wire.Quote(w.For.Key))
	}
	return b.String()
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

// newDeadlock is a cycle that the lock manager has found.
func newDeadlock(c deadlock.Cycle) Deadlock {
	d := make(Deadlock, 0, len(c))
	for _, w := range c {
		d = append(d, DeadlockEdge{Waiter: contenderEntry(w.Waiter), For: contenderEntry(w.For)})
	}
	return d
}
