package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// leftover is what a group left in etcd.
type leftover struct {
	Idle   int `json:"idle"`   // keys, while its sessions live on without a call or a hold
	Keys   int `json:"keys"`   // after its sessions were closed
	Leases int `json:"leases"` // the same
}

// clear has all clients stop, then leave, and looks at what stays in etcd after each. A
// key that is under a session's lease stays for as long as the session lives, so the
// first look is the one that finds what was forgotten.
func (s *scene) clear(ctx context.Context, admin *clientv3.Client) (map[*group]*leftover, error) {
	found := map[*group]*leftover{}
	since := now()
	for _, p := range s.everyone() {
		if err := p.tell(idle); err != nil {
			return nil, err
		}
	}
	within, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, p := range s.everyone() {
		if _, err := s.book.first(within, since, func(e event) bool { return e.What == isIdle && e.Client == p.id }); err == nil {
			continue
		} else if p.group.library.name == ours.name {
			return nil, fmt.Errorf("%s does not come to rest: %w", p.id, err)
		}
		s.note("%s does not come to rest, and is killed", p.id)
		p.kill(s.book)
	}
	// What a killed process had, or a request that is still under way, goes with its
	// lease; a new raft leader gives every lease its whole time again.
	patience := now().add(2*s.ttl + time.Second)
	for _, g := range s.groups {
		n, err := s.keys(ctx, admin, g, patience)
		if err != nil {
			return nil, err
		}
		found[g] = &leftover{Idle: n}
	}
	for _, p := range s.everyone() {
		if err := p.leave(ctx); err != nil && p.group.library.name == ours.name {
			return nil, err
		}
		p.unlink()
	}
	patience = now().add(time.Second)
	for _, g := range s.groups {
		n, err := s.keys(ctx, admin, g, patience)
		if err != nil {
			return nil, err
		}
		found[g].Keys = n
		if found[g].Leases, err = s.leases(ctx, admin, g); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// keys are how many are left of a group, once none is or the time is over.
func (s *scene) keys(ctx context.Context, admin *clientv3.Client, g *group, until instant) (int, error) {
	for {
		resp, err := admin.Get(ctx, g.shared, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return 0, err
		}
		if len(resp.Kvs) == 0 {
			return 0, nil
		}
		if now() > until {
			s.note("%s left %d keys, the first one %s", g.name(), len(resp.Kvs), resp.Kvs[0].Key)
			return len(resp.Kvs), nil
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// leases are how many are left of those that the group's keys were under.
func (s *scene) leases(ctx context.Context, admin *clientv3.Client, g *group) (int, error) {
	own := map[string]bool{}
	for _, e := range s.book.all() {
		if e.What == isHeld && strings.HasPrefix(e.Name, g.shared) {
			lease, _, _ := strings.Cut(e.Key[strings.LastIndex(e.Key, "/")+1:], ".")
			own[lease] = true
		}
	}
	resp, err := admin.Leases(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range resp.Leases {
		if own[fmt.Sprintf("%x", int64(l.ID))] {
			n++
			s.note("%s left lease %x", g.name(), int64(l.ID))
		}
	}
	return n, nil
}
