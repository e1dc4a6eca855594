package lockmgr

import (
	"context"
	"fmt"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// What the session does with its manager.

// New makes a manager without a lease.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, names: names.New()}
	m.Table = local.New(local.Config{
		Life: cfg.Life, Client: cfg.Client, Names: m.names, Queues: cfg.Queues, Clock: cfg.Clock, Log: cfg.Log, Fail: cfg.Fail,
		MayStand: func(id clientv3.LeaseID, names []string) bool { return m.MayStand(id, names...) },
		Dropped:  func(name string, slot wire.Slot) { m.sweeper.Dropped(name, slot) },
		Closed:   func() { m.sweeper.Close() },
		Work:     m.work,
		Finish:   func(t *local.Ownership) { m.finish(t) },
		Explain:  m.explain,
	})
	m.sweeper = sweeper.New(sweeper.Config{Life: cfg.Life, Names: m.names, Sweep: cfg.Queues.Sweep, Settled: m.Settled, Suspected: cfg.LeftBehind})
	m.requests = ask.New(ask.Config{
		KV: cfg.KV, Leases: cfg.Leases, Queues: cfg.Queues, Log: cfg.Log, Begin: m.Spawn, Suspect: m.sweeper.SuspectBeside, Gone: m.Settled,
	})
	m.Former = adoption.New(adoption.Config{
		Life: cfg.Life, Names: m.names, KV: cfg.KV, Leases: cfg.Leases, Queues: cfg.Queues, Log: cfg.Log, GivesUp: cfg.GivesUp,
		Insist: cfg.Insist, Revoke: cfg.RevokeFormer, Present: m.leaseID, Drop: m.DropSlot, Posted: m.requests.OfOthers,
	})
	return m
}

// leaseID is that of the present lease; NoLease for none.
func (m *Manager) leaseID() clientv3.LeaseID {
	l, _ := m.Lease()
	if l == nil || l.Err() != nil {
		return clientv3.NoLease
	}
	return l.ID()
}

// LeaseLost reports that a lease has ended. All holds and waits under it have ended already, by its
// context. LeaseLost returns how many holds these were, and describes them for the log.
func (m *Manager) LeaseLost(number int) (holds int, told []string) {
	l := m.Numbered(number)
	if l == nil {
		return 0, nil
	}
	m.sweeper.LeaseEnded(l.ID())
	return m.ForgetLease()
}

// Wait blocks until every goroutine has ended. They end once the manager is closed and the context
// of the session has ended.
func (m *Manager) Wait() {
	m.FinishLost()
	m.Table.Wait()
	m.sweeper.Wait()
	m.Former.Wait()
}

// Drain admits no further calls, fails those that wait, and blocks until nothing is left in etcd
// but the keys of what is held. In that instant the manager is closed. After an error it continues
// as before.
func (m *Manager) Drain(ctx context.Context) error {
	defer m.BeginDrain()()
	for {
		ends, over, news := m.Draining()
		if over {
			return nil
		}
		pending := m.Pending() + m.requests.Cancel(local.ErrDrained) + m.sweeper.Unsettled()
		if pending == 0 {
			if err := m.withdraw(ctx); err != nil {
				return err
			}
			m.CloseIf(ends) // else an ownership has ended meanwhile
			continue
		}
		select {
		case <-news:
		case <-m.cfg.Life.Done():
			return m.err()
		case <-ctx.Done():
			return fmt.Errorf("%d releases are not confirmed yet, and the session stays open: %w", pending, lockerr.OfContext(ctx))
		}
	}
}

// withdraw deletes the inboxes of all names. No call is admitted that would write one.
func (m *Manager) withdraw(ctx context.Context) error {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.cfg.Life, func() { cancel(m.err()) })()
	for _, q := range m.Posted() {
		if err := q.Withdraw(within); err != nil && within.Err() != nil {
			return fmt.Errorf("an inbox may stand, and the session stays open: %w", lockerr.OfContext(within))
		}
	}
	return nil
}

// mostForewarned is how many entries are forewarned at a time.
const mostForewarned = 32

// Forewarn has the entries behind marked ones look for themselves. Without that they would rely on marked
// entries that go with their lease, until they settle.
func (m *Manager) Forewarn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdkv.FirstBound)
	defer cancel()
	for some := range slices.Chunk(m.Telling(), mostForewarned) {
		var told sync.WaitGroup
		for _, one := range some {
			told.Go(func() { _ = one.Queue.Forewarn(ctx, one.Entry) })
		}
		told.Wait()
	}
}

// AnyName returns a name that is in use; false if there is none.
func (m *Manager) AnyName() (name string, ok bool) {
	return m.names.Any()
}

// Stats are counts of a manager.
type Stats struct {
	local.Stats
	Uncertain int // keys that are still to be deleted, as a request got no answer
}

// Stats returns the counts. It takes time in proportion to the names in use.
func (m *Manager) Stats() Stats {
	s := m.Table.Stats()
	return Stats{s, m.sweeper.Len() + s.Leaving}
}

// Snapshot is what a manager has in one instant. Tests of the root look at it.
type Snapshot struct {
	local.Snapshot
	Names int // names in use, and names that such a name lies inside
	Keys  sweeper.Counts
}

// Snapshot returns what the manager has now.
func (m *Manager) Snapshot() Snapshot {
	used, outer := m.names.Len()
	return Snapshot{m.Table.Snapshot(), used + outer, m.sweeper.Counts()}
}
