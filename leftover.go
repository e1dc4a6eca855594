package etcdlock

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// An enter that got no answer may take effect yet, when nobody wants it any more. Its key
// would stand in everybody's way for as long as the session lives; so it is looked for.

// lateEffect is how long a request that was not answered can still be applied:
// etcd's own bound for a proposal is 5 s plus two election timeouts.
const lateEffect = 10 * time.Second

// lookedAgain are pauses, from the first look on, after each of which it is looked for once more: a
// request may lie in a connection that hangs, while the lease is renewed by another one.
var lookedAgain = []time.Duration{20 * time.Second, 30 * time.Second, time.Minute}

// later has a key looked for that may be left behind, or the keys of a line for several names. Not
// by the line's goroutine: others may join the line and wait for that very key, or a hold may leave
// it and go on with that key.
func (l *line) later(ls *lease.Lease, slot wire.Slot) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == Closed {
		return
	}
	slots := []wire.Slot{slot}
	if l.single == nil {
		slots = l.slots
	}
	for i, name := range l.names {
		left := leftover{name, slots[i], ls.ID()}
		_, sweeping := s.leftovers[left]
		s.leftovers[left] = time.Now().Add(lateEffect)
		if !sweeping { // one goroutine does, however many enters get no answer
			s.use([]string{name}, 1)
			s.tasks.Go(func() { s.sweepLater(ls, left) })
		}
	}
}

// came tells whether the one request that was not answered has taken effect: then it will not
// any more. It has if its key was there afterwards, and nobody else can have put it there.
func (l *line) came(ls *lease.Lease, slot wire.Slot, e *queue.Entry) bool {
	if e == nil || !e.Adopted() {
		return false
	}
	s, left := l.session, leftover{l.name, slot, ls.ID()}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, unsure := s.leftovers[left]
	return !unsure && !s.watched[left]
}

// leftover is a key that may be left behind.
type leftover struct {
	name  string
	slot  wire.Slot
	lease clientv3.LeaseID
}

// sweepLater sweeps a key until nothing can be left of it: soon, as a request that is late
// mostly is not very late, and then after pauses that grow, so that what comes does not stand for
// longer than it took to come. While it is in use, what had been left there was taken over; and
// more may come of it only afterwards.
func (s *Session) sweepLater(ls *lease.Lease, left leftover) {
	var until time.Time
	for pause, done := firstSweep, false; !done; {
		// With the lease it goes.
		done = !sleep(ls.Context(), pause) || s.swept(ls, left)
		s.mu.Lock()
		if late := s.leftovers[left]; late != until {
			until, pause = late, firstSweep/2 // for another one
		}
		if pause *= 2; time.Now().Before(until) {
			pause = min(pause, time.Until(until))
		} else {
			pause = lateEffect
		}
		if done = done && (ls.Err() != nil || !time.Now().Before(until)); done {
			delete(s.leftovers, left)
			s.use([]string{left.name}, -1)
			if s.leaving > 0 {
				s.changed() // Orphan waits for this
			}
		}
		s.mu.Unlock()
	}
}

// firstSweep is after what time that is done first.
const firstSweep = 50 * time.Millisecond

// patrol sweeps a key that a candidate has left for another one, until ctx ends or the late
// effect of an unanswered enter can come there no more: it would stand ahead of the
// candidate's new place, and they would wait for each other.
func (l *line) patrol(ctx context.Context, ls *lease.Lease, slot wire.Slot) {
	s, left := l.session, leftover{l.name, slot, ls.ID()}
	s.mu.Lock()
	defer s.mu.Unlock()
	until, unsure := s.leftovers[left]
	if !unsure || s.state.state == Closed {
		return
	}
	s.tasks.Go(func() {
		for time.Now().Before(until.Add(patrolEvery)) && sleep(ctx, patrolEvery) {
			_, _ = s.sweepUnused(ls, left) // or the next time
		}
	})
}

// patrolEvery is how often patrol looks.
const patrolEvery = 250 * time.Millisecond

// swept deletes what may stand under a key that nobody uses. False if that is to be tried again.
func (s *Session) swept(ls *lease.Lease, left leftover) bool {
	swept, err := s.sweepUnused(ls, left)
	return swept && err == nil || ls.Err() != nil
}

// lookAgain looks for a key much later, again and again, unless that is done already. A key
// that is in use by then was taken over with what was left there.
func (s *Session) lookAgain(ls *lease.Lease, left leftover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watched[left] || s.state.state == Closed {
		return
	}
	s.watched[left] = true
	s.tasks.Go(func() {
		for _, pause := range lookedAgain {
			if !sleep(ls.Context(), pause) {
				break
			}
			if _, err := s.sweepUnused(ls, left); err != nil {
				break
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watched, left)
	})
}

// sweepUnused deletes what stands under a key; swept is false if that is in use.
func (s *Session) sweepUnused(ls *lease.Lease, left leftover) (swept bool, err error) {
	s.mu.Lock()
	busy := s.slots.busy(left.name, left.slot)
	if !busy {
		s.slots.hold(left.name, left.slot)
	}
	s.mu.Unlock()
	if busy {
		return false, nil
	}
	err = s.queue(left.name).Sweep(ls.Context(), ls.ID(), left.slot)
	s.mu.Lock()
	s.slots.drop(left.name, left.slot)
	s.mu.Unlock()
	if err == nil {
		s.lookAgain(ls, left)
	}
	return true, err
}

// sleep waits; false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
