package local

import (
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/broadcast"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// gate decides what may begin, and counts what Drain and Wait wait for. Table.mu guards it.
type gate struct {
	state  admissionState   // changed by Table.admit
	drains int              // calls of Drain under way
	ends   int              // ownerships that have begun to end; see Table.Pending
	news   broadcast.Signal // sent when something that Drain waits for may be over
	tasks  sync.WaitGroup   // every goroutine, and every local queue with a driver
}

// admits is the error of a call that is not admitted; nil if it is.
func (g *gate) admits() error {
	switch g.state {
	case closed:
		return lockerr.ErrSessionClosed
	case draining:
		return ErrDrained
	default:
		return nil
	}
}

// spawn starts a goroutine; false once the table is closed.
func (g *gate) spawn(run func()) bool {
	if g.state == closed {
		return false
	}
	g.tasks.Go(run)
	return true
}

// ending notes that an ownership has begun to end.
func (g *gate) ending() { g.ends++ }

// wake wakes Drain when something that it waits for may be over.
func (g *gate) wake() {
	if g.drains > 0 {
		g.news.Broadcast()
	}
}

// leases are the leases as the session reports them. Table.mu guards them.
type leases struct {
	present   atomic.Pointer[lease.Lease] // nil for none; stored with the mutex held
	number    int                         // of the last lease that the session has reported
	suspended bool                        // true: etcd does not answer renewals of the lease
	news      broadcast.Signal            // sent for another lease, and for a loss
}

// set makes a lease the present one, if it is a later one.
func (s *leases) set(l *lease.Lease, number int) {
	if number > s.number {
		s.number, s.suspended = number, false
		s.present.Store(l)
		s.news.Broadcast()
	}
}

// suspend notes whether the renewals of a lease are not answered; false if it is not the present one.
func (s *leases) suspend(number int, suspended bool) bool {
	if number != s.number {
		return false
	}
	s.suspended = suspended
	return true
}

// forget forgets the present lease.
func (s *leases) forget() {
	s.present.Store(nil)
	s.news.Broadcast()
}

// look ends the present lease if its time is over, as its timer may be late. It is called without the
// mutex.
func (s *leases) look() {
	if l := s.present.Load(); l != nil {
		_ = l.Err()
	}
}

// ended tells whether a lease is the present one, and has ended.
func (s *leases) ended(l *lease.Lease) bool {
	return l == s.present.Load() && l.Context().Err() != nil
}

// has tells whether a lease is the present one, and valid.
func (s *leases) has(id clientv3.LeaseID) bool {
	l := s.valid()
	return l != nil && l.ID() == id
}

// valid returns the present lease; nil if there is none, or if it has ended.
func (s *leases) valid() *lease.Lease {
	if l := s.present.Load(); l != nil && l.Context().Err() == nil {
		return l
	}
	return nil
}
