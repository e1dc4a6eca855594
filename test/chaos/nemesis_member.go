package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// Faults of etcd's members. No client is hit by itself: two members are always well, so
// a hold that is lost is lost for nothing, unless its client knows one member only.
func onMembers() []*nemesis {
	return []*nemesis{
		{name: "kill-leader", about: "kill -9 of the raft leader, started again after TTL + 1 s", strike: ofLeader(killMember)},
		{name: "stop-leader", about: "SIGSTOP of the raft leader for TTL + 2 s", strike: ofLeader(stopMember)},
		{name: "kill-follower", about: "kill -9 of a follower, started again after TTL + 1 s", strike: ofFollower(killMember)},
		{name: "stop-follower", about: "SIGSTOP of a follower for TTL + 2 s", strike: ofFollower(stopMember)},
		{name: "rolling-restart", about: "each member in turn ended by SIGTERM (SIGKILL after 3 s) and started again", strike: rollingRestart},
		{name: "single-endpoint", about: "the holder knows one member, a follower, which is stopped for TTL + 2 s", strike: stopOnlyMember, single: true},
	}
}

type memberFault func(context.Context, *scene, *etcdproc.Member) error

func ofLeader(fault memberFault) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		m, err := s.leader(ctx)
		if err != nil {
			return err
		}
		s.begin()
		return fault(ctx, s, m)
	}
}

func ofFollower(fault memberFault) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		i, err := s.follower(ctx)
		if err != nil {
			return err
		}
		s.begin()
		return fault(ctx, s, s.cluster.Members[i])
	}
}

func killMember(ctx context.Context, s *scene, m *etcdproc.Member) error {
	m.Kill()
	s.lasts(ctx, s.ttl+time.Second)
	return s.restart(ctx, m)
}

func stopMember(ctx context.Context, s *scene, m *etcdproc.Member) error {
	before, err := expiries(ctx, m)
	if err != nil {
		return err
	}
	if err := m.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	s.succession(ctx)
	s.lasts(ctx, s.ttl+2*time.Second)
	if err := m.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if err := s.ready(ctx, m); err != nil {
		return err
	}
	s.healed()
	wait(ctx, lateRevocation)
	after, err := expiries(ctx, m)
	s.revoked += after - before
	return err
}

// lateRevocation is for how long after it goes on a member has live leases revoked: some at once, others
// when the first try of its own has ended, after 7 s.
const lateRevocation = 8 * time.Second

// expiries returns how many leases a member has had revoked as expired. While it is stopped none expires
// for it, and clients have renewed all leases when it goes on. So what it adds then are leases that live:
// a former leader that does not know of its successor yet has them revoked (docs/operating.md).
func expiries(ctx context.Context, m *etcdproc.Member) (int, error) {
	const counter = "etcd_debugging_server_lease_expired_total "
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Endpoint+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), counter); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, fmt.Errorf("%s has no %s", m.Endpoint, counter)
}

// restart starts a member that has ended; then the fault is over.
func (s *scene) restart(ctx context.Context, m *etcdproc.Member) error {
	if err := m.Start(); err != nil {
		return err
	}
	if err := s.ready(ctx, m); err != nil {
		return err
	}
	s.healed()
	return nil
}

func (s *scene) ready(ctx context.Context, m *etcdproc.Member) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return m.Ready(ctx)
}

func rollingRestart(ctx context.Context, s *scene) error {
	s.begin()
	for i, m := range s.cluster.Members {
		m.End(syscall.SIGTERM, 3*time.Second)
		if err := m.Start(); err != nil {
			return err
		}
		if err := s.ready(ctx, m); err != nil {
			return err
		}
		if i < len(s.cluster.Members)-1 {
			wait(ctx, 500*time.Millisecond) // as one that restarts them by hand
		}
	}
	s.healed()
	return nil
}

func stopOnlyMember(ctx context.Context, s *scene) error {
	holders := s.keepers(ctx)
	only := s.cluster.Members[s.only]
	if leads, err := s.leader(ctx); err != nil {
		return err
	} else if leads == only {
		s.note("the one member leads by now")
	}
	s.begin(holders...)
	return stopMember(ctx, s, only)
}
