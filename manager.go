package etcdlock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/broadcast"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/states"
)

// manager is the lock manager of a session: the local queues of all names, what is held, and the
// keys that may be left behind. The session tells it, by calls, what becomes of the lease and of
// the session: setLease, suspend, leaseLost, drain, close. It calls the session only by the
// functions of managerConfig, without its mutex.
//
// Mutexes are taken in this order:
//
//	Session.mu -> manager.mu -> Hold.mu -> those of record, lazyctx.Context and sharedtimer
//
// lease.Lease has a mutex too, and to ask a lease may end everything under it. So a lease is not
// asked with manager.mu or Hold.mu held, but before; see look. `make lockorder` checks that
// (package lockorder). manager.mu is never held across a request, and that of one manager not
// together with that of another one.
type manager struct {
	managerConfig
	heir clientv3.LeaseID // the lease that was taken over, NoLease for none; not changed once a call can be made

	tasks     sync.WaitGroup     // every goroutine of the manager, and every local queue that somebody has, see fast.go
	settle    *sharedtimer.Queue // when a hold has lasted for a while
	restTimer *sharedtimer.Queue // when a local queue has rested for long enough

	lease atomic.Pointer[lease.Lease] // the present one; nil for none; stored with mu held

	// mu guards what follows, and the fields of local queues and ownerships that say so.
	mu        lockorder.Manager
	number    int              // of the last one that the session has told of
	suspended bool             // etcd does not answer its renewals
	news      broadcast.Signal // tells of another lease, or none, and of what drain waits for
	admission admissionState
	drains    int // calls of drain under way

	lines   map[string]*localQueue          // by id
	serial  int                             // numbers the local queues of one caller's own, and what is asked
	asks    map[int]context.CancelCauseFunc // ends the calls of Ask under way
	readers map[string]*ownership           // by name: the one that further readers may share
	beside  map[*ownership]struct{}         // those that have left their local queue, see beside.go
	losses  []*ownership                    // that ended with the present lease, and are forgotten already
	legacy  map[string]bool                 // names of the former process whose keys may stand; nil: any may
	sweeper sweeper                         // of keys that may be left behind
	names                                   // that are in use
	resting int                             // local queues that rest, ready for the next caller
}

// managerConfig is what a manager is made with.
type managerConfig struct {
	ctx     context.Context  // ends with the session, with the cause
	client  *clientv3.Client // tells managers on one etcd from those on another one; nothing is sent by it
	kv      clientv3.KV
	leases  clientv3.Lease // tells which keys a lease has
	writer  *etcdkv.Writer
	queues  *queue.Queues
	clock   func() time.Duration
	log     *zap.Logger
	owner   string // as entries name it
	givesUp bool   // what the former process had, if nobody asks for it in time

	insist       func(ctx context.Context, try func(context.Context) error) error // see Session.insist
	revokeFormer func(ctx context.Context, name string) (ended bool)              // see Session.revokeFormer
	fail         func(bug error)                                                  // see Session.fail; may be called with the mutex held
}

func newManager(cfg managerConfig) *manager {
	return &manager{
		managerConfig: cfg,
		settle:        sharedtimer.New(queue.Settle),
		restTimer:     sharedtimer.New(queue.Resting),
		lines:         make(map[string]*localQueue),
		asks:          make(map[int]context.CancelCauseFunc),
		readers:       make(map[string]*ownership),
		beside:        make(map[*ownership]struct{}),
		sweeper:       newSweeper(),
		names:         newNames(),
	}
}

// setLease gives the manager a lease. Leases are numbered from 1.
func (m *manager) setLease(l *lease.Lease, number int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number > m.number {
		m.number, m.suspended = number, false
		m.lease.Store(l)
		m.news.Broadcast()
	}
}

// suspend notes whether etcd leaves the renewals of a lease unanswered. No key is kept meanwhile
// for who may come.
func (m *manager) suspend(number int, suspended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number != m.number {
		return
	}
	m.suspended = suspended
	if suspended {
		for _, l := range m.lines {
			l.tenure.giveUpKept()
		}
	}
}

// leaseLost notes that a lease has ended, by which all holds and waits under it have ended already.
// It returns how many holds these were, and describes them for the log.
func (m *manager) leaseLost(number int) (holds int, told []string) {
	m.mu.Lock()
	l := m.lease.Load()
	if number != m.number || l == nil {
		m.mu.Unlock()
		return 0, nil
	}
	lost := m.lostWith(l)
	m.lease.Store(nil)
	m.forgetAll(l.ID())
	m.attendAll()
	m.news.Broadcast()
	m.mu.Unlock()
	return len(lost), describe(lost)
}

// drain lets nobody line up any more, fails those who wait, and blocks until nothing is left in
// etcd but the keys of what is held. In that instant the manager is closed. After an error it goes
// on as before.
func (m *manager) drain(ctx context.Context) error {
	m.mu.Lock()
	if m.drains++; m.admission == open {
		m.admit(draining)
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.drains--; m.drains == 0 && m.admission == draining {
			m.admit(open)
		}
	}()
	for {
		m.look()
		m.mu.Lock()
		pending := 0
		if m.admission != closed {
			if pending = m.pending(); pending == 0 {
				m.admit(closed)
			}
		}
		over, news := m.admission == closed, m.news.Changed()
		m.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-news:
		case <-m.ctx.Done():
			return m.err()
		case <-ctx.Done():
			return fmt.Errorf("%d releases are not confirmed yet, and the session goes on: %w", pending, lockerr.OfContext(ctx))
		}
	}
}

// pending ends what a drain does not wait for, and counts what it waits for. Called with m.mu held.
func (m *manager) pending() (n int) {
	for _, l := range m.lines {
		l.failWaiters(nil, errOrphaned)
		l.tenure.giveUpKept()
		if l.tenure.unmark(errOrphaned) || !l.tenure.open() && !l.resting {
			n++
		}
	}
	for t := range m.beside {
		if t.unmark(errOrphaned) || !t.open() {
			n++
		}
	}
	for _, cancel := range m.asks {
		cancel(errOrphaned)
		n++
	}
	return n + m.unsettled()
}

// close lets nothing begin any more.
func (m *manager) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admit(closed)
}

// wait blocks until every goroutine has ended, as they do once the manager is closed and its
// context has ended.
func (m *manager) wait() {
	m.mu.Lock()
	m.attendAll()
	m.mu.Unlock()
	m.tasks.Wait()
}

// admissionState tells what may begin.
type admissionState int

const (
	open     admissionState = iota
	draining                // no call lines up, and nothing is kept or left at rest
	closed                  // nothing begins
)

func (a admissionState) String() string { return [...]string{"open", "draining", "closed"}[a] }

// admissions are the legal edges between admissions. A manager is open at first:
//
//	from      to        when
//	open      draining  the first of several drains has begun
//	draining  open      the last of them has failed
//	draining  closed    nothing is pending any more: a drain has succeeded
//	any       closed    the session has ended
var admissions = states.Table[admissionState]{Of: "lock manager", Edges: map[admissionState][]admissionState{
	open:     {draining, closed},
	draining: {open, closed},
}}

// admit changes the admission. It is the one place where the admission changes. Called with m.mu
// held.
func (m *manager) admit(to admissionState) {
	if to == m.admission {
		return
	}
	if err := admissions.Check(m.admission, to); err != nil {
		m.fail(err)
		return
	}
	m.admission = to
}

// admits tells why nobody may line up. Called with m.mu held.
func (m *manager) admits() error {
	switch m.admission {
	case closed:
		return ErrSessionClosed
	case draining:
		return errOrphaned
	default:
		return nil
	}
}

// spawn starts a goroutine; false once the manager is closed.
func (m *manager) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admission == closed {
		return false
	}
	m.tasks.Go(f)
	return true
}

// wakeDrain is called when something may be over that a drain waits for. Called with m.mu held.
func (m *manager) wakeDrain() {
	if m.drains > 0 {
		m.news.Broadcast()
	}
}

// awaitLease blocks until there is a lease that can be relied on, the time for that is
// over or the session ends; the error is the cause.
func (m *manager) awaitLease(within *lazyctx.Context) (*lease.Lease, error) {
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
		case <-m.ctx.Done():
			return nil, m.err()
		}
	}
}

// look ends the present lease if its time is over, as its timer may be late. It comes before the
// mutex is taken by what gives a caller a hold, or a place under the lease.
func (m *manager) look() {
	if l := m.lease.Load(); l != nil {
		_ = l.Err()
	}
}

// leaseID is that of the present lease; NoLease for none.
func (m *manager) leaseID() clientv3.LeaseID {
	l := m.lease.Load()
	if l == nil || l.Err() != nil {
		return clientv3.NoLease
	}
	return l.ID()
}

// err is why the session has ended; nil while it has not.
func (m *manager) err() error { return context.Cause(m.ctx) }

// anyName is one that is in use.
func (m *manager) anyName() (name string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.using)) {
		return name, true
	}
	return "", false
}
