package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A dedicated session has a lease for one Run alone, so that the term of that Run can be left to
// the end of its lease. The session that Run was called on is its parent.

// newDedicated makes a session like s, on the same client, with a lease of its own. It outlives s
// if need be: work that stops because s has ended keeps its term until the work has returned. The
// caller calls endDedicated.
func (s *Session) newDedicated(ctx context.Context, name string) (*Session, error) {
	own, err := newSession(ctx, s.client, []SessionOption{sessionOptionFunc(func(c *sessionConfig) {
		*c = s.cfg
		c.lease = clientv3.NoLease
		c.dedicated = true
		c.listener = s.listener
		c.leaseFile = s.dedicatedFile(name)
	})})
	if err != nil {
		if ctx.Err() != nil {
			err = lockerr.OfContext(ctx)
		}
		return nil, err
	}
	if err := s.ReleaseAdopted(ctx, name); err != nil { // the former process had it on this lease
		s.log.Warn("cannot give up yet what the former process had", zap.String("name", name), zap.Error(err))
	}
	return own, nil
}

// dedicatedFile is the lease file of a dedicated session; "" without one.
func (s *Session) dedicatedFile(name string) string {
	if s.cfg.leaseFile == "" {
		return ""
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return fmt.Sprintf("%s-%x", s.cfg.leaseFile, h.Sum64())
}

// revokeFormer revokes the lease that a Run of the former process had for itself, and tells whether
// there was one. A call of this process that goes without such a lease would wait for it.
func (s *Session) revokeFormer(ctx context.Context, name string) (revoked bool) {
	if s.file == nil {
		return false
	}
	former := leasefile.TryLock(s.dedicatedFile(name))
	if former == nil {
		return false // there was none, or another Run of this process has it
	}
	defer former.Close()
	id := clientv3.LeaseID(former.Read())
	if id == clientv3.NoLease {
		return false
	}
	err := s.insist(ctx, func(ctx context.Context) error {
		_, err := s.leases.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
	if err == nil {
		err = former.Write(int64(clientv3.NoLease))
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the lease that the former process had for an election is left to expire",
			zap.String("name", name), zap.String("lease", wire.Hex(id)), zap.Error(err))
	}
	return err == nil
}

// endDedicated closes a dedicated session, and waits until etcd has confirmed that its lease is gone,
// but not beyond the lease's own end.
func (s *Session) endDedicated() {
	s.mu.Lock()
	bound := max(s.lease.Remaining(), time.Second)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	_ = s.shutdown(ctx, endClosed) // the lease runs out by itself
}
