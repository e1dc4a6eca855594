package main

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// Faults of the way between the holder and all members, each direction by itself.
func onLinks() []*nemesis {
	return []*nemesis{
		{name: "cut", about: "the holder cut off from etcd, both ways", strike: cut(faultproxy.ToServer, faultproxy.ToClient)},
		{name: "cut-to-server", about: "what the holder sends does not arrive", strike: cut(faultproxy.ToServer)},
		{name: "cut-to-client", about: "what the holder sends takes effect, but no answer arrives", strike: cut(faultproxy.ToClient)},
		{name: "lost-answers", about: "now and then what all clients send takes effect and is not answered, and callers give up", strike: loseAnswers, through: true, impatient: true},
		{name: "late-renewal", about: "a renewal of the holder is answered late, then nothing any more", strike: lateRenewal},
		{name: "slow-network", about: "every client 100 ms away each way, the holder 400 ms", strike: slowNetwork, through: true},
	}
}

// cut holds back what goes in some directions. In turn, what was held back arrives in
// the end, as when the kernel sends it again, or is lost with its connection.
func cut(directions ...faultproxy.Direction) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		holders := s.keepers(ctx)
		s.begin(holders...)
		for _, l := range links(holders) {
			l.Hold(directions...)
		}
		s.succession(ctx)
		s.lasts(ctx, s.ttl+2*time.Second)
		s.mend(holders)
		s.healed()
		return nil
	}
}

func (s *scene) mend(peers []*peer) {
	for _, l := range links(peers) {
		if s.round%2 == 1 {
			l.Drop()
		}
		l.Resume()
	}
}

// lateRenewal lets a renewal take effect, holds its answer back for a while, delivers it, and is
// silent from then on. A client that counts from the receipt of the answer believes too long, by as
// much as the answer was late.
func lateRenewal(ctx context.Context, s *scene) error {
	holders := s.keepers(ctx)
	late := s.ttl * 60 / 100 // before the deadline of one that counts from the sending
	if s.round%2 == 1 {
		late = s.ttl * 85 / 100 // as late as one that counts from the receipt allows
	}
	s.begin(holders...)
	all := links(holders)
	for _, l := range all {
		l.Hold(faultproxy.ToClient)
	}
	s.lasts(ctx, s.ttl/2) // both libraries renew every third of the TTL
	for _, l := range all {
		l.Hold(faultproxy.ToServer)
	}
	s.lasts(ctx, late)
	for _, l := range all {
		l.Release(faultproxy.ToClient)
	}
	wait(ctx, 20*time.Millisecond)
	for _, l := range all {
		l.Hold()
	}
	s.succession(ctx)
	s.lasts(ctx, late+s.ttl+time.Second) // until the last one has been told
	s.mend(holders)
	s.healed()
	return nil
}

// loseAnswers cuts all clients off from their answers, for a time that leases survive, and then drops
// the connections. A caller that gives up meanwhile leaves an entry behind, of which it has no answer.
func loseAnswers(ctx context.Context, s *scene) error {
	s.begin()
	for now().sub(s.began) < s.ttl+2*time.Second && ctx.Err() == nil {
		for _, l := range links(s.everyone()) {
			l.Hold(faultproxy.ToClient)
		}
		wait(ctx, s.ttl/8)
		for _, l := range links(s.everyone()) {
			l.Drop()
			l.Resume()
		}
		wait(ctx, s.ttl/4)
	}
	s.healed()
	return nil
}

func slowNetwork(ctx context.Context, s *scene) error {
	holders := s.keepers(ctx)
	s.begin()
	delay := func(peers []*peer, by time.Duration) {
		for _, l := range links(peers) {
			l.Delay(faultproxy.ToServer, by)
			l.Delay(faultproxy.ToClient, by)
		}
	}
	delay(s.everyone(), 100*time.Millisecond)
	delay(holders, 400*time.Millisecond)
	s.lasts(ctx, s.ttl)
	for _, p := range holders {
		_ = p.tell(goOn)
	}
	s.lasts(ctx, s.ttl+2*time.Second)
	delay(s.everyone(), 0)
	s.healed()
	return nil
}
