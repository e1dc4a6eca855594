package session

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A session adopts the lease of a former process, and with it all keys of that process. The lease is
// given by its ID, or it stands in the lease file. Its liveness record, if there is one, is replaced
// by that of this process.

// adoptGiven adopts the lease that the session was given by its ID.
func (s *Session) adoptGiven(ctx context.Context) (*lease.Lease, error) {
	l, err := s.resume(ctx, s.cfg.Lease)
	if err != nil {
		return nil, err
	}
	// The TTL is checked before the liveness record is replaced. If this session cannot continue, the
	// record must not have the address of its process.
	if err := s.cfg.useTTLOf(l, s.Log); err != nil {
		l.End(err)
		return nil, fmt.Errorf("lease %s: %w", wire.Hex(l.ID()), err)
	}
	if err := s.replaceRecord(ctx, l); err != nil {
		return nil, err
	}
	return l, nil
}

// useTTLOf changes the TTL to that of an adopted lease, for the leases that follow it.
func (c *Config) useTTLOf(l *lease.Lease, log *zap.Logger) error {
	ttl := l.Granted() - c.Delay
	if ttl <= 0 {
		return fmt.Errorf("%w: %w: lock-delay %v: the lease was granted for %v, which must be longer than the delay",
			lockerr.ErrInvalidOption, lockerr.ErrInvalidTTL, c.Delay, l.Granted())
	}
	if c.TTLSet && c.TTL != ttl {
		log.Warn("the session uses the TTL of the lease that it has taken over, not the one of WithTTL",
			zap.Duration("ttl", ttl), zap.Duration("WithTTL", c.TTL))
	}
	c.TTL = ttl
	return c.Validate()
}

// adoptFromFile locks the lease file, and adopts the lease in it. It returns nil without an error if
// there is no lease in the file, if etcd does not know the lease, or if it has another TTL than this
// session asks for. In the last case the lease is revoked: its deadlines would be counted by a TTL
// that this session does not ask for.
func (s *Session) adoptFromFile(ctx context.Context) (*lease.Lease, error) {
	if s.cfg.LeaseFile == "" {
		return nil, nil
	}
	if err := s.presence.lockFile(ctx); err != nil {
		return nil, err
	}
	id := clientv3.LeaseID(s.presence.file.Read())
	if id == clientv3.NoLease {
		return nil, nil
	}
	l, err := s.resume(ctx, id)
	if err == nil && l.Granted() != s.cfg.TTL+s.cfg.Delay {
		return nil, s.giveUpFormer(ctx, l)
	}
	if err == nil {
		err = s.replaceRecord(ctx, l)
	}
	switch {
	case err == nil:
		s.Log.Info("the session continues with the lease of the previous process", zap.String("lease", wire.Hex(id)))
		return l, nil
	case errors.Is(err, lockerr.ErrLeaseNotFound):
		return nil, nil
	default:
		return nil, err
	}
}

// resume renews a lease that exists.
func (s *Session) resume(ctx context.Context, id clientv3.LeaseID) (l *lease.Lease, err error) {
	err = s.insistAloud(ctx, func(ctx context.Context) (err error) {
		l, err = lease.Resume(ctx, s.ctx, s.leaseConfig(1), id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", wire.Hex(id), err)
	}
	return l, nil
}

// replaceRecord replaces the liveness record under a lease that was resumed. After an error the lease
// has ended here.
func (s *Session) replaceRecord(ctx context.Context, l *lease.Lease) error {
	if err := s.liveness.Replace(ctx, l); err != nil {
		l.End(err)
		return fmt.Errorf("lease %s: %w", wire.Hex(l.ID()), err)
	}
	return nil
}

// giveUpFormer revokes a lease of the former process, which had another TTL.
func (s *Session) giveUpFormer(ctx context.Context, l *lease.Lease) error {
	l.End(lockerr.ErrInvalidTTL)
	s.Log.Warn("the previous process had another TTL or lock-delay: its holds are released", zap.String("file", s.cfg.LeaseFile),
		zap.String("lease", wire.Hex(l.ID())), zap.Duration("previous TTL with lock-delay", l.Granted()),
		zap.Duration("TTL with lock-delay", s.cfg.TTL+s.cfg.Delay))
	switch err := s.Insist(ctx, func(ctx context.Context) error { return l.Revoke(ctx) }); {
	case err == nil:
		return nil
	case answer.Final(err) && !errors.Is(err, lockerr.ErrClientClosed):
		s.Log.Error("etcd refuses to revoke the lease of the previous process; its keys stay until the lease expires",
			zap.String("lease", wire.Hex(l.ID())), zap.Error(err))
		return nil
	default:
		return fmt.Errorf("revoke lease %s of the previous process, which had another TTL: %w", wire.Hex(l.ID()), err)
	}
}

// A dedicated session has a lease for one Run alone, so that the term of that Run can be left to the
// end of its lease. Its parent is the session that Run was called on. It outlives its parent if need
// be: work that stops because the parent has ended keeps its term until the work has returned.

// Dedicated returns the config of a dedicated session for an election. The caller calls EndDedicated
// on it.
func (s *Session) Dedicated(name string) Config {
	cfg := s.cfg
	cfg.Lease = clientv3.NoLease
	cfg.Dedicated = true
	cfg.Listener = s.presence.listener
	cfg.LeaseFile = s.dedicatedFile(name)
	return cfg
}

// dedicatedFile is the lease file of a dedicated session; "" without one.
func (s *Session) dedicatedFile(name string) string {
	if s.cfg.LeaseFile == "" {
		return ""
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return fmt.Sprintf("%s-%x", s.cfg.LeaseFile, h.Sum64())
}

// RevokeFormer revokes the lease of the dedicated session that a former process had for an election,
// and reports whether there was one. A call of this process that goes without such a lease would wait
// for it.
func (s *Session) RevokeFormer(ctx context.Context, name string) (revoked bool) {
	if s.cfg.LeaseFile == "" {
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
	err := s.Insist(ctx, func(ctx context.Context) error {
		_, err := s.Leases.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
	if err == nil {
		err = former.Write(int64(clientv3.NoLease))
	}
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("cannot revoke the lease of the previous process for an election; it is left to expire",
			zap.String("name", name), zap.String("lease", wire.Hex(id)), zap.Error(err))
	}
	return err == nil
}
