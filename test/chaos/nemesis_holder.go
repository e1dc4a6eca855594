package main

import (
	"context"
	"time"
)

// Faults of the processes that hold.
func onHolders() []*nemesis {
	return []*nemesis{
		{name: "kill-holder", about: "kill -9 of the holder", strike: killHolder},
		{name: "stop-holder", about: "SIGSTOP of the holder for TTL + 2 s, then SIGCONT", strike: stopHolder},
	}
}

func killHolder(ctx context.Context, s *scene) error {
	holders := s.keepers(ctx)
	s.begin(holders...)
	for _, p := range holders {
		p.kill(s.book)
	}
	s.succession(ctx)
	for _, p := range holders {
		if _, err := s.hire(p.group, p.slot); err != nil {
			return err
		}
	}
	s.healed()
	return nil
}

func stopHolder(ctx context.Context, s *scene) error {
	holders := s.keepers(ctx)
	s.begin(holders...)
	for _, p := range holders {
		if err := p.stop(s.book); err != nil {
			return err
		}
	}
	s.succession(ctx)
	s.lasts(ctx, s.ttl+2*time.Second)
	for _, p := range holders {
		if err := p.resume(s.book); err != nil {
			return err
		}
	}
	s.told(ctx, holders)
	s.healed()
	return nil
}

// told waits until the clients that were stopped have reported what they lost. An order to release
// must not come before that report.
func (s *scene) told(ctx context.Context, stopped []*peer) {
	ctx, cancel := context.WithTimeout(ctx, s.ttl)
	defer cancel()
	for _, p := range stopped {
		_, _ = s.book.first(ctx, s.began, func(e event) bool {
			return e.What == isLost && e.Client == p.id && e.Name == p.group.shared
		})
	}
}
