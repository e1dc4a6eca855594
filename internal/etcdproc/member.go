package etcdproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/internal/procs"
)

// Member is one process of a cluster. The Child is the present one; a restart puts
// another in its place, so only one goroutine at a time may kill and start members.
type Member struct {
	*procs.Child
	Name, Peer, Endpoint, DataDir string

	log    string
	binary string
	env    []string
	flags  []string
	kids   *procs.Children
}

// Start starts the member, again after it has ended.
func (m *Member) Start() error {
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(m.binary, m.flags...)
	cmd.Env = append(os.Environ(), m.env...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := m.kids.Start(cmd)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	m.Child = p
	return nil
}

// Running tells whether the process has not ended.
func (m *Member) Running() bool {
	select {
	case <-m.Gone():
		return false
	default:
		return true
	}
}

// LastWords is the last line of the member's log.
func (m *Member) LastWords() string {
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// Leader returns the index of the raft leader as most members see it. It waits
// until they agree on one that runs, or ctx ends.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	for {
		if i, ok := c.leader(ctx); ok {
			return i, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no raft leader: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cluster) leader(ctx context.Context) (int, bool) {
	votes := map[uint64]int{}
	id := map[uint64]int{}
	for i, m := range c.Members {
		seen, own, err := m.status(ctx)
		if err != nil {
			continue
		}
		id[own] = i
		votes[seen]++
	}
	for leader, n := range votes {
		if i, known := id[leader]; known && n > len(c.Members)/2 {
			return i, true
		}
	}
	return 0, false
}

// status asks the member alone who leads, and who it is.
func (m *Member) status(ctx context.Context) (leader, own uint64, err error) {
	if !m.Running() {
		return 0, 0, errors.New("has ended")
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	client, err := connect(m.Endpoint)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	status, err := client.Status(ctx, m.Endpoint)
	if err != nil {
		return 0, 0, err
	}
	return status.Leader, status.Header.MemberId, nil
}

// Ready waits until the member answers a linearizable read.
func (m *Member) Ready(ctx context.Context) error {
	client, err := connect(m.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(try, "etcdproc/ready")
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("member %s does not answer: %w", m.Name, err)
		case <-m.Gone():
			return fmt.Errorf("member %s ended: %s", m.Name, m.LastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
