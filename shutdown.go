package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/compathook"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Close ends the session. It ends all holds and waits at once, with [ErrSessionClosed], and revokes
// the lease, which deletes everything the session has in etcd in one request. It blocks until etcd
// has confirmed that or ctx ends, but not beyond the end of the lease in etcd. If ctx has ended
// already, Close still makes one attempt, which takes a second at most. A deferred Close under a
// context that SIGTERM has cancelled therefore releases everything. After an error the lease is
// left to expire. Nothing stays longer than one TTL, and no goroutine stays at all.
//
// Close does not wait for the work that is done under a lock. If others must not acquire a lock
// before that work has ended, release it first.
//
// A second Close returns nil. A Close after the client was closed returns [ErrClientClosed],
// because it can revoke nothing.
func (s *Session) Close(ctx context.Context) error {
	return s.close(ctx, endClosed)
}

func (s *Session) close(ctx context.Context, how *ending) error {
	if err := s.shutdown(ctx, how); err != nil {
		return fmt.Errorf("etcdlock: close session: %w", err)
	}
	return nil
}

func init() {
	compathook.CloseWithin = func(ctx context.Context, session any) error {
		return session.(*Session).close(ctx, endClosedWithin)
	}
}

// Orphan ends the session, but leaves the lease and the keys of all holds in etcd, for a process
// that takes them over within the TTL through [WithLease]. It returns the lease for that process.
// All holds and waits end in this process with [ErrOrphaned].
//
// It blocks until everything else that the session had in etcd is known to be gone, or ctx ends. If
// ctx ends first, the session continues as if Orphan had not been called, except that its waits
// have ended. If ctx has ended already, Orphan tries for a second at most.
//
// Errors:
//   - the error of ctx
//   - [ErrLost] if there is no lease to leave; the session has ended nevertheless
func (s *Session) Orphan(ctx context.Context) (clientv3.LeaseID, error) {
	ctx, cancel := lastTry(ctx)
	defer cancel()
	err := s.liveness.Withdraw(ctx)
	var how *ending
	if err == nil {
		if how, err = s.orphan(ctx); err != nil {
			s.liveness.Restore()
		}
	}
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("etcdlock: orphan session: %w", err)
	}
	if err := s.finish(ctx, how); err != nil {
		s.log.Warn("the session was orphaned, but an earlier lease was not revoked", zap.Error(err))
	}
	if how.leaves == clientv3.NoLease {
		return clientv3.NoLease, fmt.Errorf("etcdlock: orphan session: no lease to leave: %w", ErrLost)
	}
	return how.leaves, nil
}

// ending is a way to end a session. Each end goes through shutdown, and the first one counts:
//
//	                    leases in etcd            listener and lease file  if ctx has ended
//	Close               revoked                   closed                   one last attempt
//	Close, compat       revoked                   closed                   no request
//	Orphan              present one is left       closed                   one last attempt
//	client closed       expire                    closed                   no request
//	same, dedicated     expire                    kept until endDedicated  no request
//
// A lease that expired while there is a lock-delay is never revoked: only its end in etcd may
// end the delay.
type ending struct {
	cause   error            // of the end of the session, of its holds and its waits
	expires error            // why no lease is revoked; nil if leases are
	leaves  clientv3.LeaseID // the lease that is left to a successor; NoLease for none
	keeps   bool             // true: the liveness listener and the lease file stay open until another shutdown
	within  bool             // true: no request is made once ctx has ended
}

var (
	endClosed          = &ending{cause: ErrSessionClosed}
	endClosedWithin    = &ending{cause: ErrSessionClosed, within: true}
	endWithClient      = &ending{cause: lockerr.SessionEnded(ErrClientClosed), expires: ErrClientClosed}
	endDedicatedClient = &ending{cause: lockerr.SessionEnded(ErrClientClosed), expires: ErrClientClosed, keeps: true}

	errOrphaned = lockerr.SessionEnded(ErrOrphaned)
)

// endOrphaned leaves a lease to a successor.
func endOrphaned(id clientv3.LeaseID) *ending {
	return &ending{cause: errOrphaned, leaves: id, within: true} // Orphan has made the last attempt
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
	s.enter(StateClosed)
	return true
}

// finish gives up everything that a session which has ended has in this process and, as how says, in
// etcd. Called once, by the call that ended the session.
func (s *Session) finish(ctx context.Context, how *ending) error {
	s.mu.Lock()
	detach, present := s.detach, s.lease
	s.mu.Unlock()
	detach()
	_ = present.Err() // ends an expired lease as such, in a process that had been stopped until now
	s.manager.close()
	s.cancel(how.cause) // and with it the lease, and with that all holds
	s.manager.wait()
	s.followers.Close(how.cause)
	s.tasks.Wait() // all of them end with s.ctx
	s.streams.Leave()
	defer close(s.closed)
	if !how.keeps {
		defer s.closeListenerAndFile() // after the revocation: before it, this would look like a crash
	}
	if how.expires != nil {
		return nil
	}
	if how.leaves == clientv3.NoLease {
		s.record(clientv3.NoLease)
	}
	if !how.within {
		var cancel context.CancelFunc
		ctx, cancel = lastTry(ctx)
		defer cancel()
	}
	return s.revokeAll(ctx, how)
}

// closeListenerAndFile gives up what tells other processes that this one lives: the liveness
// listener, and the lock on the lease file.
func (s *Session) closeListenerAndFile() {
	s.file.Close()
	s.listener.Close()
}

// awaitEnd waits for the call that has ended the session.
func (s *Session) awaitEnd(ctx context.Context, how *ending) error {
	select {
	case <-s.closed:
	case <-ctx.Done():
		select {
		case <-s.closed:
		default:
			return fmt.Errorf("another Close is under way: %w", lockerr.OfContext(ctx))
		}
	}
	if !how.keeps {
		s.closeListenerAndFile()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.expires != nil {
		return fmt.Errorf("lease %x is left to expire: %w", int64(s.lease.ID()), s.ending.expires)
	}
	return nil
}

// lastTryBound is how long a last attempt may take.
const lastTryBound = time.Second

// lastTry returns ctx; or, if that has ended, a context for one last attempt. The caller of a
// Close that gets no attempt would leave its locks to expire.
func lastTry(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(context.WithoutCancel(ctx), lastTryBound, lockerr.OfContext(ctx))
}

// revokeAll revokes the present lease and those that are still to be revoked, but for the one that
// is left to a successor, and those that a lock-delay keeps.
func (s *Session) revokeAll(ctx context.Context, how *ending) error {
	s.mu.Lock()
	all := slices.Clone(s.pendingRevokes)
	if s.leased {
		all = slices.Insert(all, 0, s.lease)
	}
	s.mu.Unlock()
	for _, l := range all {
		if l.ID() == how.leaves || s.cfg.delay > 0 && errors.Is(l.Err(), ErrExpired) {
			continue
		}
		if err := s.revoke(ctx, l); err != nil {
			return fmt.Errorf("lease %x is left to expire: %w", int64(l.ID()), err)
		}
	}
	return nil
}

// revokeLater revokes a lease that was given up here and may live on in etcd: a new raft
// leader grants every lease its full TTL again, and so does an etcd that was restored from
// a backup, and the keys under this one would stand in everybody's way. It leaves the margin
// to those who held under it. It goes on until etcd has answered: no lease runs out while etcd
// is away.
func (s *Session) revokeLater(l *lease.Lease) {
	select {
	case <-time.After(l.Margin()):
	case <-s.ctx.Done():
		return // finish does it
	}
	err := s.insist(s.ctx, func(ctx context.Context) error { return l.Revoke(ctx) })
	if err != nil && s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pendingRevokes = slices.DeleteFunc(s.pendingRevokes, func(other *lease.Lease) bool { return other == l })
}

// revoke revokes a lease that has ended here. It tries until etcd has answered, be it
// a refusal, or ctx ends, but for no longer than etcd keeps the lease: then it has run out by itself.
func (s *Session) revoke(ctx context.Context, l *lease.Lease) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.Granted(), errUnreachable)
	defer cancel()
	return s.insist(ctx, func(ctx context.Context) error { return l.Revoke(ctx) })
}

var errUnreachable = errors.New("etcd did not answer for a whole TTL")

// orphan has the manager drain, which closes it in the instant in which nothing is left in etcd but
// the keys of what is held, and ends the session.
func (s *Session) orphan(ctx context.Context) (*ending, error) {
	if err := s.manager.drain(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	how := endOrphaned(clientv3.NoLease)
	if s.leased && s.lease.Err() == nil {
		how = endOrphaned(s.lease.ID())
	}
	if !s.end(how) {
		return nil, s.ending.cause
	}
	return how, nil
}
