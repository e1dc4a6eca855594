// Package lockmgr is the lock manager of a session: every name that the session locks, and what it
// holds. It imports neither the session nor the root.
//
//	Request    what a call asks of the queue of a name
//	Manager    the local queues by name; which calls are admitted; the lease
//	localQueue the waiters of this process on one name: phase and driver (phase.go)
//	ownership  one key, from its grant to its deletion (ownershipstate.go)
//	Hold       one acquisition, which the handles of the API embed
//
// A free lock is one request by its caller (fastpath.go). Everything that waits is done by one worker
// for each local queue (worker.go, enter.go). docs/design.md has the tables of the state machines.
package lockmgr

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/broadcast"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// Manager is the lock manager of a session: the local queues of all names, what is held, and the
// keys that may be left behind. The session reports, by calls, what becomes of the lease and of
// the session: SetLease, Suspend, LeaseLost, Drain, Close. The manager calls the session only by
// the functions of Config, without its mutex.
//
// Mutexes are taken in this order:
//
//	Session.mu -> Manager.mu -> Hold.mu -> those of holdInfo, lazyctx.Context and sharedtimer
//
// lease.Lease has a mutex too, and a question to a lease may end everything under it. A lease is
// therefore asked before Manager.mu or Hold.mu is taken, see look. `make lockorder` checks that
// (package lockorder). Manager.mu is never held across a request, and never together with the one
// of another manager.
type Manager struct {
	cfg      Config
	names    *names.Table
	sweeper  *sweeper.Sweeper
	requests *ask.Requests
	*adoption.Former

	tasks     sync.WaitGroup     // every goroutine of the manager, and every local queue with a driver, see fastpath.go
	guards    *queue.Keeper      // of the keys of holds that have lasted for a while
	born      time.Time          // see now
	settle    *sharedtimer.Queue // when a hold has lasted for a while
	restTimer *sharedtimer.Queue // when a local queue has been idle for long enough

	lease atomic.Pointer[lease.Lease] // the present one; nil for none; stored with mu held

	// mu guards the fields below, and the fields of local queues and ownerships that say so.
	mu        lockorder.Manager
	number    int              // of the last lease that the session has reported
	suspended bool             // true: etcd does not answer renewals of the lease
	news      broadcast.Signal // sent for another lease, for a loss, and for what Drain waits for
	admission admissionState
	drains    int // calls of Drain under way
	ends      int // ownerships that have begun to end; see Drain

	locals  locals
	beside  beside
	losses  losses
	counts  counts // since the manager was made
	evicted evictions
}

// Config is what a manager is made with.
type Config struct {
	Life    context.Context  // ends with the session, with the cause
	Client  *clientv3.Client // distinguishes managers on one etcd from those on another; nothing is sent by it
	KV      clientv3.KV
	Leases  clientv3.Lease // lists the keys of a lease
	Writer  *etcdkv.Writer
	Queues  *queue.Queues
	Clock   func() time.Duration
	Log     *zap.Logger
	GivesUp bool // true: keys of the former process are deleted if no call asks for them in time

	// Insist sends a request until etcd gives an answer that counts, or ctx ends.
	Insist func(ctx context.Context, try func(context.Context) error) error
	// RevokeFormer revokes the lease that a Run of the former process had for a name, if there is one.
	RevokeFormer func(ctx context.Context, name string) (ended bool)
	// LeftBehind reports a key that a request without an answer may have left. It is called with the
	// mutex held, and does not block. It may be nil.
	LeftBehind func(name, key string)
	// Fail ends the session because of a bug. It may be called with any mutex held.
	Fail func(bug error)
}

// New makes a manager without a lease.
func New(cfg Config) *Manager {
	m := &Manager{
		cfg:       cfg,
		names:     names.New(),
		born:      time.Now(),
		settle:    sharedtimer.New(queue.Settle),
		restTimer: sharedtimer.New(queue.Resting),
		locals:    locals{byID: make(map[string]*localQueue)},
		beside:    beside{readers: make(map[string]*ownership)},
	}
	m.sweeper = sweeper.New(sweeper.Config{Life: cfg.Life, Names: m.names, Sweep: cfg.Queues.Sweep, Settled: m.settled, Suspected: cfg.LeftBehind})
	m.requests = ask.New(ask.Config{
		KV: cfg.KV, Queues: cfg.Queues, Log: cfg.Log, Begin: m.begin, Suspect: m.sweeper.SuspectBeside, Gone: m.settled,
	})
	m.Former = adoption.New(adoption.Config{
		Life: cfg.Life, Names: m.names, KV: cfg.KV, Leases: cfg.Leases, Queues: cfg.Queues, Log: cfg.Log, GivesUp: cfg.GivesUp,
		Insist: cfg.Insist, Revoke: cfg.RevokeFormer, Present: m.leaseID, Drop: m.dropSlot, Posted: m.requests.OfOthers,
	})
	m.guards = cfg.Queues.Keeper(func(run func()) { m.tasks.Go(run) })
	return m
}

// now is the time as fields of the manager's have it, which take less room so. It stands still while the
// machine sleeps, other than the session's clock.
func (m *Manager) now() time.Duration { return time.Since(m.born) }

// SetLease gives the manager a lease. Leases are numbered from 1.
func (m *Manager) SetLease(l *lease.Lease, number int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number > m.number {
		m.number, m.suspended = number, false
		m.lease.Store(l)
		m.news.Broadcast()
	}
}

// Suspend reports whether etcd leaves the renewals of a lease unanswered. No key is kept for later
// callers meanwhile.
func (m *Manager) Suspend(number int, suspended bool) {
	m.mu.Lock()
	present := number == m.number
	if present {
		m.suspended = suspended
	}
	m.mu.Unlock()
	if present && suspended {
		m.locals.all.Walk(&m.mu, func(l *localQueue) {
			if m.suspended {
				l.owned.giveUpKept()
			}
		})
	}
}

// LeaseLost reports that a lease has ended. All holds and waits under it have ended already, by its
// context. LeaseLost returns how many holds these were, and describes them for the log.
func (m *Manager) LeaseLost(number int) (holds int, told []string) {
	m.mu.Lock()
	l, late := m.lease.Load(), number != m.number
	m.mu.Unlock()
	if l == nil || late {
		return 0, nil
	}
	m.sweeper.LeaseEnded(l.ID())
	m.finishLost()
	m.mu.Lock()
	lost := m.losses.take()
	m.lease.Store(nil)
	m.news.Broadcast()
	m.mu.Unlock()
	return len(lost), describe(lost)
}

// Close lets nothing begin from now on.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admit(closed)
}

// Wait blocks until every goroutine has ended. They end once the manager is closed and the context
// of the session has ended.
func (m *Manager) Wait() {
	m.finishLost()
	m.tasks.Wait()
	m.sweeper.Wait()
	m.Former.Wait()
}

// begin calls note and starts a goroutine, if a call is admitted.
func (m *Manager) begin(note, run func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admits(); err != nil {
		return err
	}
	note()
	m.tasks.Go(run)
	return nil
}

// spawn starts a goroutine; false once the manager is closed.
func (m *Manager) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admission == closed {
		return false
	}
	m.tasks.Go(f)
	return true
}

// settled is called when an uncertain key can be written no more, or a posted request is gone.
func (m *Manager) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakeDrain()
}

// ending notes that an ownership has begun to end. Called with m.mu held.
func (m *Manager) ending() { m.ends++ }

// wakeDrain wakes Drain when something that it waits for may be over. Called with m.mu held.
func (m *Manager) wakeDrain() {
	if m.drains > 0 {
		m.news.Broadcast()
	}
}

// awaitLease blocks until there is a lease that can be relied on. It fails with the cause if within
// or the session ends first.
func (m *Manager) awaitLease(within *lazyctx.Context) (*lease.Lease, error) {
	for {
		m.mu.Lock()
		l, news := m.lease.Load(), m.news.Changed()
		m.mu.Unlock()
		if l != nil && l.Err() == nil {
			return l, nil
		}
		select {
		case <-news:
		case <-within.Context().Done():
			return nil, within.Cause()
		case <-m.cfg.Life.Done():
			return nil, m.err()
		}
	}
}

// look ends the present lease if its time is over, as its timer may be late. Each function that
// gives a caller a hold, or a place under the lease, calls it before it takes the mutex.
func (m *Manager) look() {
	if l := m.lease.Load(); l != nil {
		_ = l.Err()
	}
}

// leaseID is that of the present lease; NoLease for none.
func (m *Manager) leaseID() clientv3.LeaseID {
	l := m.lease.Load()
	if l == nil || l.Err() != nil {
		return clientv3.NoLease
	}
	return l.ID()
}

// err is why the session has ended; nil while it has not.
func (m *Manager) err() error { return context.Cause(m.cfg.Life) }

// AnyName returns a name that is in use; false if there is none.
func (m *Manager) AnyName() (name string, ok bool) {
	return m.names.Any()
}

// Snapshot is what a manager has in one instant. Tests of the root look at it.
type Snapshot struct {
	Admission string
	Queues    int // local queues
	Idle      int // those of them that are idle
	Names     int // names in use, and names that such a name lies inside
	Keys      sweeper.Counts
}

// Snapshot returns what the manager has now.
func (m *Manager) Snapshot() Snapshot {
	used, outer := m.names.Len()
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{
		Admission: m.admission.String(), Queues: m.locals.all.Len(), Idle: m.locals.undriven, Names: used + outer, Keys: m.sweeper.Counts(),
	}
}
