package main

import (
	"context"
	"time"
)

// Faults of a process that waits in line. Its lease expires while another one goes on
// to hold; when it is back, what it hears first is that the one ahead of it has gone.
func onWaiters() []*nemesis {
	return []*nemesis{
		{name: "stop-waiter", about: "SIGSTOP of a waiter until its lease has expired and another one holds", strike: stopWaiter, through: true},
		{name: "cut-waiter", about: "the same by a cut both ways, after which it hears everything late", strike: cutWaiter, through: true},
	}
}

func stopWaiter(ctx context.Context, s *scene) error {
	waiters := s.waiters(ctx)
	s.begin(waiters...)
	for _, p := range waiters {
		if err := p.stop(s.book); err != nil {
			return err
		}
	}
	s.overtake(ctx, waiters)
	for _, p := range waiters {
		if err := p.resume(s.book); err != nil {
			return err
		}
	}
	wait(ctx, time.Second)
	s.healed()
	return nil
}

func cutWaiter(ctx context.Context, s *scene) error {
	waiters := s.waiters(ctx)
	s.begin(waiters...)
	for _, l := range links(waiters) {
		l.Hold()
	}
	s.overtake(ctx, waiters)
	for _, l := range links(waiters) {
		l.Resume()
	}
	wait(ctx, time.Second)
	s.healed()
	return nil
}

// waiters has one client of each group hold, and returns one of each that waits.
func (s *scene) waiters(ctx context.Context) (all []*peer) {
	s.keepers(ctx)
	for _, g := range s.groups {
		all = append(all, g.peers[(s.round+1)%len(g.peers)])
	}
	wait(ctx, 200*time.Millisecond) // until they are in line
	return all
}

// overtake waits until the leases of the waiters must have expired; then it has the
// holders let the remaining ones hold, and go on holding.
func (s *scene) overtake(ctx context.Context, waiters []*peer) {
	s.lasts(ctx, s.ttl+time.Second)
	since := now()
	for _, g := range s.groups {
		for i, p := range g.peers {
			switch i {
			case s.round % len(g.peers):
				_ = p.tell(goOn) // fails if it has ended, which the referee tells
			case (s.round + 1) % len(g.peers): // the waiter
			default:
				_ = p.tell(keep)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.ttl)
	defer cancel()
	for _, g := range s.groups {
		_, _ = s.book.first(ctx, since, func(e event) bool {
			return e.What == isKept && e.Name == g.shared && !hits(waiters, e.Client)
		})
	}
}
