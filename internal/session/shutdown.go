package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// ending is a way to end a session. Each end goes through shutdown, and the first one counts:
//
//	                    leases in etcd            presence                 if ctx has ended
//	Close               revoked                   closed                   one last attempt
//	CloseWithin         revoked                   closed                   no request
//	Orphan              present one is left       closed                   one last attempt
//	client closed       expire                    closed                   no request
//	same, dedicated     expire                    kept until EndDedicated  no request
//
// A lease that expired while there is a lock-delay is never revoked: only its end in etcd may
// end the delay.
type ending struct {
	cause   error            // of the end of the session, of its holds and its waits
	expires error            // why no lease is revoked; nil if leases are
	leaves  clientv3.LeaseID // the lease that is left to a successor; NoLease for none
	keeps   bool             // true: the presence stays open until another shutdown
	within  bool             // true: no request is made once ctx has ended
}

var (
	endClosed       = &ending{cause: lockerr.ErrSessionClosed}
	endClosedWithin = &ending{cause: lockerr.ErrSessionClosed, within: true}

	errClientClosed    = lockerr.SessionEnded(lockerr.ErrClientClosed)
	endWithClient      = &ending{cause: errClientClosed, expires: lockerr.ErrClientClosed}
	endDedicatedClient = &ending{cause: errClientClosed, expires: lockerr.ErrClientClosed, keeps: true}
)

// endOrphaned leaves a lease to a successor.
func endOrphaned(id clientv3.LeaseID) *ending {
	// Orphan has made the last attempt.
	return &ending{cause: lockerr.SessionEnded(lockerr.ErrOrphaned), leaves: id, within: true}
}

// Close ends the session. It blocks until etcd has confirmed that the lease is gone, or ctx ends. If
// ctx has ended already, it makes one last attempt.
func (s *Session) Close(ctx context.Context) error { return s.shutdown(ctx, endClosed) }

// CloseWithin is Close, except that it makes no request once ctx has ended.
func (s *Session) CloseWithin(ctx context.Context) error { return s.shutdown(ctx, endClosedWithin) }

// EndDedicated closes a dedicated session. It blocks until etcd has confirmed that the lease is gone,
// but not beyond the end of the lease, which runs out by itself.
func (s *Session) EndDedicated() {
	ctx, cancel := context.WithTimeout(context.Background(), max(s.LastLease().Remaining(), time.Second))
	defer cancel()
	_ = s.shutdown(ctx, endClosed)
}

// Orphan ends the session, and leaves the lease and the keys of all holds in etcd to a successor. It
// blocks until everything else that the session had in etcd is known to be gone, or ctx ends. After
// an error that does not match ErrLost the session continues.
func (s *Session) Orphan(ctx context.Context) (clientv3.LeaseID, error) {
	ctx, cancel := lastTry(ctx)
	defer cancel()
	if err := s.liveness.Withdraw(ctx); err != nil {
		return clientv3.NoLease, err
	}
	how, err := s.drain(ctx)
	if err != nil {
		s.liveness.Restore()
		return clientv3.NoLease, err
	}
	if err := s.finish(ctx, how); err != nil {
		s.Log.Warn("the session was orphaned, but an earlier lease was not revoked", zap.Error(err))
	}
	if how.leaves == clientv3.NoLease {
		return clientv3.NoLease, fmt.Errorf("no lease to leave: %w", lockerr.ErrLost)
	}
	return how.leaves, nil
}

// drain has the manager drain, and ends the session in the instant in which nothing is left in etcd
// but the keys of what is held.
func (s *Session) drain(ctx context.Context) (*ending, error) {
	if err := s.manager.Drain(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	how := endOrphaned(clientv3.NoLease)
	if s.current.leased && s.current.lease.Err() == nil {
		how = endOrphaned(s.current.lease.ID())
	}
	if !s.end(how) {
		return nil, s.ending.cause
	}
	return how, nil
}

// shutdown ends the session, once. A second call waits until the first one is through.
func (s *Session) shutdown(ctx context.Context, how *ending) error {
	s.mu.Lock()
	first := s.end(how)
	s.mu.Unlock()
	if !first {
		return s.awaitEnd(ctx, how)
	}
	return s.finish(ctx, how)
}

// end lets nothing begin any more under the session. It returns false if the session had ended
// before. Called with s.mu held.
func (s *Session) end(how *ending) (first bool) {
	if s.ending != nil {
		return false
	}
	s.ending = how
	s.enter(StateClosed, how.cause)
	return true
}

// finish gives up everything that a session which has ended has in this process and, as how says, in
// etcd. It is called once, by the call that ended the session.
func (s *Session) finish(ctx context.Context, how *ending) error {
	s.mu.Lock()
	detach, last := s.detach, s.current.lease
	s.mu.Unlock()
	detach()
	ended := last.Err() // ends an expired lease as such, in a process that had been stopped until now
	s.manager.Close()
	if how.expires == nil && how.leaves == clientv3.NoLease && ended == nil && ctx.Err() == nil {
		s.manager.Forewarn(ctx)
	}
	s.cancel(how.cause) // and with it the lease, and with that all holds
	s.manager.Wait()
	s.Followers.Close(how.cause)
	s.tasks.Wait() // all of them end with s.ctx
	s.streams.Leave()
	defer close(s.closed)
	if !how.keeps {
		defer s.presence.close() // after the revocation: before it, this would look like a crash
	}
	if how.expires != nil {
		return nil
	}
	if how.leaves == clientv3.NoLease {
		s.presence.record(clientv3.NoLease)
	}
	if !how.within {
		var cancel context.CancelFunc
		ctx, cancel = lastTry(ctx)
		defer cancel()
	}
	return s.revokeAll(ctx, how)
}

// awaitEnd waits for the call that has ended the session.
func (s *Session) awaitEnd(ctx context.Context, how *ending) error {
	select {
	case <-s.closed:
	case <-ctx.Done():
		select {
		case <-s.closed:
		default:
			return fmt.Errorf("another Close has not finished: %w", lockerr.OfContext(ctx))
		}
	}
	if !how.keeps {
		s.presence.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.expires != nil {
		return fmt.Errorf("lease %x is left to expire: %w", int64(s.current.lease.ID()), s.ending.expires)
	}
	return nil
}

// lastTryBound is how long a last attempt may take.
const lastTryBound = time.Second

// lastTry returns ctx. If ctx has ended, it returns a context for one last attempt: without this
// attempt the locks of the session would be left to expire.
func lastTry(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(context.WithoutCancel(ctx), lastTryBound, lockerr.OfContext(ctx))
}

// revokeAll revokes the present lease and those that are still to be revoked. It leaves the lease for
// the successor, and the leases that a lock-delay keeps.
func (s *Session) revokeAll(ctx context.Context, how *ending) error {
	s.mu.Lock()
	all := slices.Clone(s.pendingRevokes)
	if s.current.leased {
		all = slices.Insert(all, 0, s.current.lease)
	}
	s.mu.Unlock()
	for _, l := range all {
		if l.ID() == how.leaves || s.cfg.Delay > 0 && errors.Is(l.Err(), lockerr.ErrExpired) {
			continue
		}
		if err := s.revoke(ctx, l); err != nil {
			return fmt.Errorf("lease %x is left to expire: %w", int64(l.ID()), err)
		}
	}
	return nil
}

// revoke revokes a lease that has ended here. It tries until etcd has answered, even by a refusal, or
// ctx ends, at most for as long as etcd keeps the lease.
func (s *Session) revoke(ctx context.Context, l *lease.Lease) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.Granted(), errUnreachable)
	defer cancel()
	return s.Insist(ctx, func(ctx context.Context) error { return l.Revoke(ctx) })
}

var errUnreachable = errors.New("etcd did not answer for a whole TTL")

// revokeLater revokes a lease that was given up here and may live on in etcd: a new raft leader
// grants every lease its full TTL again, and so does an etcd that was restored from a backup. The keys
// under the lease would stand in the way of every other session. revokeLater leaves the margin to the
// work that was done under the lease. It continues until etcd has answered, because no lease runs out
// while etcd is away.
func (s *Session) revokeLater(l *lease.Lease) {
	select {
	case <-time.After(l.Margin()):
	case <-s.ctx.Done():
		return // finish does it
	}
	err := s.Insist(s.ctx, func(ctx context.Context) error { return l.Revoke(ctx) })
	if err != nil && s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pendingRevokes = slices.DeleteFunc(s.pendingRevokes, func(other *lease.Lease) bool { return other == l })
}
