// Package local has, in memory, which calls of a session wait and which of them hold. It is a monitor:
// each exported function is one step, under the one mutex of the Table, and neither waits nor sends a
// request. Only a walk over all names, such as Stats, is many steps. What a step leaves to be done is
// returned, or begins in a goroutine by a function of Config. The lock manager (package lockmgr) makes the requests.
//
//	Request   what the calls of a handle ask of the queue of a name
//	Call      one call with a request
//	Table     the local queues by name; which calls are admitted; the lease
//	Queue     the waiters of this process on one name: phase and driver
//	Ownership one key, from its grant to its deletion
//	Hold      one acquisition
//
// docs/design.md has the tables of the state machines.
package local

import (
	"context"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/roster"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Table has the local queues of all names of a session, and what is held.
//
// Mutexes are taken in this order:
//
//	Session.mu -> Table.mu -> Hold.mu -> those of holdInfo, lazyctx.Context and sharedtimer
//
// lease.Lease has a mutex too, and a question to a lease may end everything under it. A lease is
// therefore asked before Table.mu or Hold.mu is taken, see leases.look. `make lockorder` checks that
// (package lockorder). Table.mu is never held across a request, and never together with the one of
// another table.
type Table struct {
	cfg     Config
	born    time.Time                      // see now
	young   *sharedtimer.Later[*Ownership] // those that have not lasted for a while
	resting *sharedtimer.Later[*Queue]     // those that may have been idle for long enough
	guards  *queue.Keeper                  // of the keys of holds that have lasted for a while

	// mu guards the fields below, and the fields of queues and ownerships that say so.
	mu      lockorder.Manager
	leases  leases
	gate    gate
	locals  locals
	beside  beside
	evicted evictions
	losses  losses
	deleted deleted
	counts  counts // since the table was made
}

// Config is what a table is made with. Its functions do not block, and are called with the mutex held.
type Config struct {
	Life   context.Context  // ends with the session, with the cause
	Client *clientv3.Client // distinguishes tables on one etcd from those on another
	Names  *names.Table
	Queues *queue.Queues
	Clock  func() time.Duration
	Log    *zap.Logger

	// MayStand reports whether a key of the former process may stand under one of some names.
	MayStand func(id clientv3.LeaseID, names []string) bool
	// Dropped is told of a slot that was given up. Nothing is left in etcd, or only an uncertain key.
	Dropped func(name string, slot wire.Slot)
	// Closed is told that nothing may begin any more.
	Closed func()
	// Work drives a local queue, and begins with what is under way. It is called in a goroutine.
	Work func(l *Queue, begun Begun)
	// Finish finishes an ownership beside its local queue. It is called in a goroutine.
	Finish func(t *Ownership)
	// Explain finds out why the keys of TakeEvicted are gone. It is called in a goroutine.
	Explain func()
	// Fail ends the session because of a bug.
	Fail func(bug error)
}

// Begun is what the worker of a local queue begins with.
type Begun struct {
	Finish  *Ownership // it is to end; nil for none
	Attempt *Attempt   // then: a request was made, which was no grant, or has an unknown outcome; nil for none
	Rested  bool       // true: the local queue was idle for long enough, and its inbox stands
}

// New makes a table without a lease.
func New(cfg Config) *Table {
	m := &Table{
		cfg:     cfg,
		born:    time.Now(),
		young:   sharedtimer.NewLater(queue.Settle, (*Ownership).grown),
		resting: sharedtimer.NewLater(queue.Resting, (*Queue).rested),
		locals:  locals{byName: make(map[string]*Queue)},
		beside:  beside{readers: make(map[string]*Ownership)},
	}
	m.guards = cfg.Queues.Keeper(func(run func()) { m.gate.tasks.Go(run) })
	return m
}

// now is the time as fields of the table's have it, which take less room so. It stands still while the
// machine sleeps, other than the session's clock.
func (m *Table) now() time.Duration { return time.Since(m.born) }

// admit changes the admission. It is the one place where the admission changes. Called with m.mu
// held.
func (m *Table) admit(to admissionState) {
	if to == m.gate.state {
		return
	}
	if err := Admissions.Check(m.gate.state, to); err != nil {
		m.cfg.Fail(err)
		return
	}
	m.gate.state = to
	if to == closed {
		m.cfg.Closed()
	}
}

// DropSlot gives up a slot of which nothing is left in etcd, or only an uncertain key. Another owner may
// take it at once.
func (m *Table) DropSlot(name string, slot wire.Slot) {
	m.cfg.Names.Drop(name, slot)
	m.cfg.Dropped(name, slot)
}

// addLocal makes a local queue without a driver. Called with m.mu held.
func (m *Table) addLocal(name string) *Queue {
	l := &Queue{Line: Line{one: [1]string{name}}}
	m.locals.byName[name] = l
	m.add(l)
	return l
}

// addPrivate makes a private local queue, which no other call joins, with a worker. Called with m.mu held.
func (m *Table) addPrivate(names []string) *Queue {
	l := &Queue{Line: Line{one: [1]string{names[0]}, private: &private{names: names, slots: make([]wire.Slot, len(names))}}}
	for i, name := range names {
		l.slots[i] = m.cfg.Names.Take(name, wire.Slot{})
	}
	if len(names) > 1 {
		l.set = m.cfg.Queues.Set(names, l.slots)
	}
	m.add(l)
	l.work(Begun{})
	return l
}

// add adds a local queue without a driver. Called with m.mu held.
func (m *Table) add(l *Queue) {
	l.table, l.counted = m, true
	m.locals.add(l)
	m.cfg.Names.Use(l.Names(), 1)
}

// An idle local queue is kept for a while, as the next caller often comes soon. It has a worker only
// while that has to hear what a watch reports, or deletes the inbox.

// count counts or discounts the names of the local queue among those in use. Called with Table.mu
// held.
func (l *Queue) count(counted bool) {
	if counted != l.counted {
		l.counted = counted
		l.table.cfg.Names.Use(l.Names(), map[bool]int{false: -1, true: 1}[counted])
	}
}

// forget takes the local queue out of the manager. Called with Table.mu held.
func (l *Queue) forget() {
	l.count(false)
	l.table.locals.remove(l)
}

// checkNesting refuses a name that lies inside another one in use, or around one. The name of an idle
// local queue does not count when it comes to that. Called with m.mu held.
func (m *Table) checkNesting(name string) error {
	for {
		other, err := m.cfg.Names.CheckNesting(name)
		l := m.locals.byName[other]
		if err == nil || l == nil || l.phase != idle || !l.counted {
			return err
		}
		l.count(false)
	}
}

// rest leaves the local queue without a driver, for as long as an idle queue is kept. Called with
// Table.mu held, by the driver.
func (l *Queue) rest() {
	m := l.table
	l.pending = nil
	l.become(idle)
	switch {
	case m.locals.undriven < MaxIdle && m.gate.state == open:
		l.drive(driverNone)
		l.since = m.now()
		if !l.ticks {
			l.ticks = true
			m.resting.Add(l)
		}
	case l.posts():
		l.work(Begun{Rested: true})
	default:
		l.drive(driverNone)
		l.end()
	}
}

// end forgets a local queue without a driver, and closes its watches. Called with Table.mu held.
func (l *Queue) end() {
	l.close()
	l.forget()
	l.table.gate.wake()
}

// posts tells whether the inbox of the local queue stands, as far as is known. Called with Table.mu held.
func (l *Queue) posts() bool {
	return l.Single != nil && l.table.leases.has(l.Single.Posted()) // else it has gone with its lease
}

// rested forgets a local queue if it has been idle for long enough.
func (l *Queue) rested() {
	m := l.table
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case l.driver != driverNone || !m.locals.has(l): // rest sets it again
		l.ticks = false
	case m.now()-l.since < queue.Resting:
		m.resting.Add(l)
	case m.gate.state != closed && l.posts():
		l.ticks = false
		l.work(Begun{Rested: true})
	default:
		l.end()
	}
}

// MaxIdle is the most local queues of a session that are kept while they are idle.
const MaxIdle = 512

// locals are the local queues of a table. Table.mu guards them.
type locals struct {
	byName   map[string]*Queue   // without the private ones
	all      roster.List[*Queue] // with them
	undriven int                 // those without a driver, and those with a worker that only listens
}

// add adds a local queue without a driver.
func (s *locals) add(l *Queue) {
	s.all.Add(l)
	s.undriven++
}

// remove removes a local queue.
func (s *locals) remove(l *Queue) {
	if l.driver == driverNone {
		s.undriven--
	}
	if !l.Private() {
		delete(s.byName, l.Name())
	}
	s.all.Remove(l.member)
	l.member = removed
}

// Index is that in locals.all.
func (l *Queue) Index() *int { return &l.member }

// removed is the index of a local queue that was removed.
const removed = -1

// has tells whether a local queue was not removed.
func (s *locals) has(l *Queue) bool { return l.member != removed }

// rests counts one local queue more, or less, that nothing drives, or that has a worker that only listens.
func (s *locals) rests(one bool) {
	if one {
		s.undriven++
	} else {
		s.undriven--
	}
}
