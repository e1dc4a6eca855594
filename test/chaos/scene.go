package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// scene is one nemesis's cluster and clients. All groups stand on the same cluster, so
// that a fault hits etcdlock and the control in the same moment.
type scene struct {
	nemesis  *nemesis
	ttl      time.Duration
	dir      string
	kids     *procs.Children
	cluster  *etcdproc.Cluster
	resource *resource
	book     *book
	groups   []*group
	onDisks  *disks // nil: the members' data is where all is
	only     int    // the member that the first clients know, if they know but one
	round    int

	began   instant  // of the present round's fault
	struck  []*peer  // the clients that it hits
	spans   []span   // of the faults, one for each round
	stuck   []string // clients that were not granted in time
	revoked int      // live leases that etcd has revoked, as far as is known
	notes   []string
}

// span is when a fault began and when it had ended.
type span struct{ from, to instant }

const (
	members = 3
	slots   = 3 // clients of a group
)

func hostPort(url string) string { return strings.TrimPrefix(url, "http://") }

// populate starts the clients and waits until each has been granted once.
func (s *scene) populate(ctx context.Context) error {
	since := now()
	only, err := s.follower(ctx)
	if err != nil {
		return err
	}
	s.only = only
	for _, g := range s.groups {
		for slot := range slots {
			if _, err := s.hire(g, slot); err != nil {
				return err
			}
		}
	}
	if stuck := s.everybody(ctx, since, 30*time.Second); len(stuck) > 0 {
		return fmt.Errorf("never granted, before any fault: %v", stuck)
	}
	return nil
}

// keepers has one client of each group hold the shared name until it is told to go, and
// returns those that do. One that is not granted for a long time is stuck.
func (s *scene) keepers(ctx context.Context) []*peer {
	since := now()
	var asked, holding []*peer
	for _, g := range s.groups {
		p := g.peers[s.round%len(g.peers)]
		if s.nemesis.single {
			p = g.slot(0)
		}
		_ = p.tell(keep) // fails if it has ended, and then it is not granted
		asked = append(asked, p)
	}
	within, cancel := context.WithTimeout(ctx, 10*s.ttl)
	defer cancel()
	for _, p := range asked {
		if _, err := s.book.first(within, since, func(e event) bool { return e.What == isKept && e.Client == p.id }); err != nil {
			s.stuck = append(s.stuck, p.id)
			continue
		}
		holding = append(holding, p)
	}
	return holding
}

func (g *group) slot(n int) *peer {
	for _, p := range g.peers {
		if p.slot == n {
			return p
		}
	}
	return nil
}

// begin marks the start of the fault, and the clients that it hits by themselves or their links. A
// loss of these clients is due to the fault.
func (s *scene) begin(struck ...*peer) {
	s.began, s.struck = now(), struck
	for _, p := range struck {
		s.book.add(event{What: wasCut, Client: p.id, At: s.began})
	}
}

// healed marks the end of the fault.
func (s *scene) healed() {
	for _, p := range s.struck {
		s.book.add(event{What: wasHealed, Client: p.id, At: now()})
	}
	s.spans = append(s.spans, span{s.began, now()})
}

// succession waits until each group has a next holder, or has had time enough. It is
// the referee that measures; this is so that a fault lasts until then.
func (s *scene) succession(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.ttl)
	defer cancel()
	for _, g := range s.groups {
		_, _ = s.book.first(ctx, s.began, func(e event) bool {
			return e.What == isHeld && e.Name == g.shared && !hits(s.struck, e.Client)
		})
	}
}

func hits(struck []*peer, id string) bool {
	for _, p := range struck {
		if p.id == id {
			return true
		}
	}
	return false
}

// lasts waits until the fault has lasted for d.
func (s *scene) lasts(ctx context.Context, d time.Duration) { wait(ctx, d-now().sub(s.began)) }

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// calm lets keepers continue after a fault, and waits until each client was granted once more.
func (s *scene) calm(ctx context.Context) {
	since := now()
	for _, g := range s.groups {
		for _, p := range g.peers {
			_ = p.tell(goOn) // fails if it has ended, which the referee tells
		}
	}
	s.stuck = append(s.stuck, s.everybody(ctx, since, 10*s.ttl)...)
}

// everybody waits until each client was granted the shared name since an instant, and returns the
// clients that were not granted.
func (s *scene) everybody(ctx context.Context, since instant, within time.Duration) (stuck []string) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, g := range s.groups {
		for _, p := range g.peers {
			if _, err := s.book.first(ctx, since, func(e event) bool {
				return e.What == isHeld && e.Client == p.id && e.Name == g.shared
			}); err != nil {
				stuck = append(stuck, p.id)
			}
		}
	}
	return stuck
}

// links are the ways of some clients to all members.
func links(peers []*peer) (all []*faultproxy.Proxy) {
	for _, p := range peers {
		all = append(all, p.links...)
	}
	return all
}

func (s *scene) everyone() (all []*peer) {
	for _, g := range s.groups {
		all = append(all, g.peers...)
	}
	return all
}

func (s *scene) leader(ctx context.Context) (*etcdproc.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	i, err := s.cluster.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return s.cluster.Members[i], nil
}

// follower is the index of the first member that does not lead.
func (s *scene) follower(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	i, err := s.cluster.Leader(ctx)
	if i == 0 {
		return 1, err
	}
	return 0, err
}

// note says something about the run that the figures do not.
func (s *scene) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf("round %d: ", s.round+1)+fmt.Sprintf(format, args...))
}
