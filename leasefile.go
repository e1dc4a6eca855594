package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// WithLeaseFile lets a process that starts again within its TTL, also after a crash, continue with
// its locks, its terms and its places in queues, without an election. The session writes its lease
// to the file, and a session that finds a lease there takes it over if etcd still knows it. The
// kernel locks the file (flock) while the process lives, and NewSession waits for this lock, so two
// processes are never on one lease. This is safe only if the file is on a local file system, one
// for each instance of the service on a host and never copied, and if children that do the leader's
// work end with the process. A call such as [Mutex.Lock], [Election.Campaign] or [Election.Run]
// gets at once what the former process held, if it fits, and keys that no call asks for within one
// TTL are given up, see [Session.Adopted].
//
// NewSession then has two further errors:
//   - [ErrLeaseFileInUse] if its context ends before the file is free
//   - [ErrInvalidOption] on systems without flock
//
// End a planned restart with [Session.Orphan], because [Session.Close] gives everything back. See
// "Restarts without an election" in docs/elections.md for what the next process may change.
func WithLeaseFile(path string) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.leaseFile = path })
}

// lockLeaseFile waits until no other process has the lease file.
func lockLeaseFile(ctx context.Context, path string, log *zap.Logger) (*leasefile.File, error) {
	f, err := leasefile.Lock(ctx, path, func() {
		log.Info("another process has the lease file; waiting until it ends", zap.String("file", path))
	})
	switch {
	case errors.Is(err, leasefile.ErrInUse):
		return nil, fmt.Errorf("%w: %s: %w", ErrLeaseFileInUse, path, lockerr.OfContext(ctx))
	case errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	return f, err
}

// record notes the present lease for a successor; NoLease for none.
func (s *Session) record(id clientv3.LeaseID) {
	if s.file == nil {
		return
	}
	if err := s.file.Write(int64(id)); err != nil {
		s.log.Error("cannot write the lease file; a restart will begin anew",
			zap.String("file", s.cfg.leaseFile), zap.Error(err))
	}
}

// leaseFromFile takes over the lease in the file; nil without an error when there is none
// to take over.
func (s *Session) leaseFromFile(ctx context.Context) (*lease.Lease, error) {
	if s.cfg.leaseFile == "" {
		return nil, nil
	}
	var err error
	if s.file, err = lockLeaseFile(ctx, s.cfg.leaseFile, s.log); err != nil {
		return nil, err
	}
	id := clientv3.LeaseID(s.file.Read())
	if id == clientv3.NoLease {
		return nil, nil
	}
	told := false
	for n := 0; ; n++ {
		l, err := s.takeOverOrEnd(ctx, id, &told)
		switch {
		case err == nil && l == nil:
			return nil, nil
		case err == nil:
			s.log.Info("goes on with the lease of the process before", zap.String("lease", wire.Hex(id)))
			return l, nil
		case errors.Is(err, ErrLeaseNotFound):
			return nil, nil
		case answer.Final(err) || ctx.Err() != nil:
			return nil, err
		}
		select {
		case <-time.After(backoff.Delay(n, 50*time.Millisecond, time.Second, int64(os.Getpid()))):
		case <-ctx.Done():
			return nil, lockerr.OfContext(ctx)
		case <-s.client.Ctx().Done():
			return nil, ErrClientClosed
		}
	}
}

// resume renews a lease that exists.
func (s *Session) resume(ctx context.Context, id clientv3.LeaseID) (l *lease.Lease, err error) {
	err = s.insistAloud(ctx, "the session", func(ctx context.Context) (err error) {
		l, err = lease.Resume(ctx, s.ctx, s.leaseConfig(1), id)
		return err
	})
	return l, err
}

// takeOver makes a lease that exists that of this session.
func (s *Session) takeOver(ctx context.Context, id clientv3.LeaseID) (*lease.Lease, error) {
	l, err := s.resume(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("lease %x: %w", int64(id), err)
	}
	// Before the record is replaced: the address of a process that cannot go on would be that of a
	// dead one.
	if err := s.cfg.goBy(l.Granted(), s.log); err != nil {
		l.End(err)
		return nil, fmt.Errorf("lease %x: %w", int64(id), err)
	}
	return s.inheritFrom(ctx, l)
}

// takeOverOrEnd is takeOver if the lease has the TTL that this session asks for. Otherwise it
// revokes the lease, and returns nil without an error: the session is to begin with another
// one. Deadlines would otherwise be counted by a TTL that this session does not ask for.
func (s *Session) takeOverOrEnd(ctx context.Context, id clientv3.LeaseID, told *bool) (*lease.Lease, error) {
	l, err := s.resume(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("lease %x: %w", int64(id), err)
	}
	asked := s.cfg.ttl + s.cfg.delay
	if l.Granted() == asked {
		return s.inheritFrom(ctx, l)
	}
	l.End(ErrInvalidTTL)
	if !*told {
		*told = true
		s.log.Warn("the former process had another TTL or lock-delay: what it held is given up", zap.String("file", s.cfg.leaseFile),
			zap.String("lease", wire.Hex(id)), zap.Duration("former TTL with lock-delay", l.Granted()), zap.Duration("TTL with lock-delay", asked))
	}
	try, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	switch err := l.Revoke(try); {
	case err == nil:
		return nil, nil
	case answer.Final(err):
		s.log.Error("etcd refuses to revoke the lease of the former process: what it held stays until that expires",
			zap.String("lease", wire.Hex(id)), zap.Error(err))
		return nil, nil
	default:
		return nil, fmt.Errorf("revoke lease %x of the former process, which had another TTL: %w", int64(id), err)
	}
}

// inheritFrom makes a lease that was resumed that of this session.
func (s *Session) inheritFrom(ctx context.Context, l *lease.Lease) (*lease.Lease, error) {
	if err := s.liveness.Replace(ctx, l); err != nil {
		l.End(err)
		return nil, fmt.Errorf("lease %x: %w", int64(l.ID()), err)
	}
	s.heir = l.ID()
	return l, nil
}
