package etcdlock

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// twin makes a session like s, on the same client, with a lease of its own. It outlives s
// if need be: work that stops because s has ended keeps its term until it has. Whoever
// made it calls closeTwin.
func (s *Session) twin(ctx context.Context, name string) (*Session, error) {
	own, err := newSession(ctx, s.client, []SessionOption{sessionOptionFunc(func(c *sessionConfig) {
		*c = s.cfg
		c.lease = clientv3.NoLease
		c.dedicated = true
		c.shared = s.beacon
		if c.leaseFile != "" {
			h := fnv.New64a()
			_, _ = h.Write([]byte(name)) // never fails
			c.leaseFile = fmt.Sprintf("%s-%x", s.cfg.leaseFile, h.Sum64())
		}
	})})
	if err != nil {
		if ctx.Err() != nil {
			err = contextError(ctx)
		}
		return nil, err
	}
	return own, nil
}

// closeTwin closes a twin, and waits until etcd has confirmed that its lease is gone,
// but not beyond the lease's own end.
func (s *Session) closeTwin() {
	s.mu.Lock()
	bound := max(s.lease.Remaining(), time.Second)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	_ = s.Close(ctx) // the lease runs out by itself
	s.leave()
}
