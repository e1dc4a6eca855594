package etcdproc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Member is one process of a cluster.
type Member struct {
	*Server
	Name, Peer, DataDir string

	cluster *Cluster
}

// Ready waits until the member answers a linearizable read, as after a restart.
func (m *Member) Ready(ctx context.Context) error {
	client, err := m.cluster.Client(m.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	return m.Await(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := client.Get(ctx, probe)
		return err
	})
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

// status asks this member for the IDs of the raft leader and of itself.
func (m *Member) status(ctx context.Context) (leader, own uint64, err error) {
	if !m.Running() {
		return 0, 0, errors.New("has ended")
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	client, err := m.cluster.Client(m.Endpoint)
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
