package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// plan is what to run.
type plan struct {
	nemeses []*nemesis
	rounds  int
	ttl     time.Duration
	control bool // etcd's own library beside
	etcd    etcdproc.Programs
	env     []string // for etcd
	dir     string   // for data
	kids    *procs.Children
	say     func(string, ...any)
}

// mostRevoked is the number of runs of a nemesis in which etcd may revoke leases that live.
const mostRevoked = 12

// run does one nemesis. It does it again if etcd has revoked leases that live, and then for one round,
// which etcd spoils less often than several. No client can hold anything then, so that run tells nothing
// about one.
func (p plan) run(ctx context.Context, n *nemesis) (*outcome, error) {
	for again := 1; ; again++ {
		o, err := p.once(ctx, n)
		if err != nil || o.Revoked == 0 || again == mostRevoked {
			return o, err
		}
		p.say("%s: etcd has revoked %d leases that live in %d rounds (docs/operating.md): once more", n.name, o.Revoked, p.rounds)
		p.rounds = 1
	}
}

// once does one nemesis on a cluster of its own.
func (p plan) once(ctx context.Context, n *nemesis) (*outcome, error) {
	began := time.Now()
	o := &outcome{Nemesis: n.name, About: n.about, Rounds: p.rounds}
	s := &scene{nemesis: n, ttl: p.ttl, kids: p.kids, book: newBook()}
	var err error
	if s.dir, err = os.MkdirTemp(p.dir, n.name+"-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(s.dir)
	cfg := etcdproc.Config{Size: members, Dir: s.dir, Env: p.env}
	if n.disks != nil {
		s.onDisks, err = n.disks(s)
		if errors.Is(err, errNoMount) {
			o.Skipped = err.Error()
			return o, nil
		}
		if err != nil {
			return nil, err
		}
		defer s.onDisks.close()
		cfg.DataDir = s.onDisks.dir
	}
	if s.cluster, err = p.etcd.Start(ctx, p.kids, cfg); err != nil {
		return nil, err
	}
	defer s.cluster.Stop()
	if s.resource, err = newResource(); err != nil {
		return nil, err
	}
	defer s.resource.close()
	s.groups = p.groups()
	defer func() {
		for _, c := range s.everyone() {
			c.proc.Kill()
			c.unlink()
		}
	}()
	if err := p.play(ctx, s, o); err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	o.Notes, o.Took = s.notes, time.Since(began)
	return o, nil
}

func (p plan) groups() (all []*group) {
	for _, l := range libraries {
		for _, k := range kinds {
			if l.has(k.name) && (p.control || l.name == ours.name) {
				all = append(all, &group{library: l, kind: k, shared: prefix + l.name + "-" + k.name})
			}
		}
	}
	return all
}

// play does the rounds and judges what came of them.
func (p plan) play(ctx context.Context, s *scene, o *outcome) error {
	seen, err := gather(ctx, s)
	if err != nil {
		return err
	}
	defer seen.close()
	asked, err := startProbe(ctx, s)
	if err != nil {
		return err
	}
	defer asked.close()
	if err := s.populate(ctx); err != nil {
		return err
	}
	for s.round = range p.rounds {
		if err := s.nemesis.strike(ctx, s); err != nil {
			return fmt.Errorf("round %d: %w", s.round+1, err)
		}
		s.calm(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	admin, err := s.cluster.Client()
	if err != nil {
		return err
	}
	defer admin.Close()
	left, err := s.clear(ctx, admin)
	if err != nil {
		return err
	}
	if err := seen.complete(ctx, admin); err != nil {
		return err
	}
	asked.close()
	o.Stuck, o.Revoked = s.stuck, s.revoked
	o.Events = s.book.all()
	o.NoRenewals, o.NoWrites = asked.longest(renewal).Seconds(), asked.longest(write).Seconds()
	for _, g := range s.groups {
		o.Groups = append(o.Groups, judge(s, g, seen, asked, left[g], o))
	}
	return nil
}
