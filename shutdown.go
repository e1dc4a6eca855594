package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lasttry"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Close ends the session: it ends all holds and waits at once, with
// [ErrSessionClosed], and revokes the lease, which deletes everything the session
// has in etcd in one request. It blocks until etcd confirmed that or ctx ends, but
// not beyond the lease's own end in etcd. If ctx has ended already, Close makes one
// attempt all the same, which takes a second at most: a deferred Close under a context
// that SIGTERM has cancelled releases everything. On an error the lease is left to expire:
// nothing stays longer than one TTL, and no goroutine at all.
//
// Close does not wait for the work that is done under a lock: release first what
// others must not get before that work has ended. A second Close returns nil; a Close
// after the client was closed [ErrClientClosed], as it can revoke nothing.
func (s *Session) Close(ctx context.Context) error {
	err := s.shutdown(ctx, endClosed)
	if err != nil {
		return fmt.Errorf("etcdlock: close session: %w", err)
	}
	return nil
}

// Orphan ends the session, but leaves the lease and the keys of all that is held in
// etcd, for a process that takes them over within the TTL through [WithLease]; it
// returns the lease for that. All holds and waits end here with [ErrOrphaned]: the
// process that takes over has the holds.
//
// It blocks until everything else that the session had in etcd is known to be gone,
// or ctx ends; then the session goes on, as if Orphan had not been called, but for the
// waits, which have ended. If ctx has ended already, Orphan tries for a second at most. The
// error is that of ctx, or [ErrLost] if there is no lease to leave; in this case the
// session has ended all the same.
func (s *Session) Orphan(ctx context.Context) (clientv3.LeaseID, error) {
	ctx, cancel := lastTry(ctx)
	defer cancel()
	err := s.hush(ctx, s.Lease())
	var id clientv3.LeaseID
	if err == nil {
		id, err = s.orphan(ctx)
	}
	if err != nil {
		s.speak()
		return clientv3.NoLease, fmt.Errorf("etcdlock: orphan session: %w", err)
	}
	_ = s.shutdown(ctx, endOrphaned) // it makes no request
	if id == clientv3.NoLease {
		return id, fmt.Errorf("etcdlock: orphan session: no lease to leave: %w", ErrLost)
	}
	return id, nil
}

// ending is a way in which a session ends. All of them go through shutdown.
type ending struct {
	cause  error // of the end of the session, and of everything under it
	revoke bool  // the leases of the session
}

var (
	endClosed     = &ending{cause: ErrSessionClosed, revoke: true}
	endOrphaned   = &ending{cause: errOrphaned}
	endWithClient = &ending{cause: fmt.Errorf("%w: %w", ErrSessionClosed, lockerr.Lost(ErrClientClosed))}

	errOrphaned = fmt.Errorf("%w: %w", ErrSessionClosed, lockerr.Lost(ErrOrphaned))
)

// shutdown ends the session, once, and gives up everything that it has in this process: its
// goroutines, the liveness listener and the lease file. A second call waits until the
// first one is through.
func (s *Session) shutdown(ctx context.Context, how *ending) error {
	s.mu.Lock()
	_ = s.end(how) // it has ended already if this is the end of Orphan
	first := s.ending == how && !s.ends
	s.ends = s.ends || first
	detach, present := s.detach, s.lease
	s.mu.Unlock()
	if !first {
		return s.awaitEnd(ctx)
	}
	detach()
	s.cancel(how.cause)                 // and with it the lease, and with that all holds
	expired := present.Remaining() <= 0 // perhaps unseen, in a process that had been stopped
	s.tasks.Wait()                      // all of them end with s.ctx
	s.streams.Leave()
	defer close(s.closed)
	if how != endWithClient || !s.cfg.dedicated {
		defer s.leave() // when the lease is gone: nobody shall take this for a crash before
	}
	if !how.revoke {
		return nil // a successor may go on with the lease
	}
	s.record(clientv3.NoLease)
	ctx, cancel := lastTry(ctx)
	defer cancel()
	for _, l := range []*lease.Lease{s.lease, s.buried} {
		if l == nil || s.cfg.delay > 0 && (l == present && expired || errors.Is(l.Err(), ErrExpired)) {
			continue // the lock-delay is for this, and must not be cut short
		}
		if err := s.revoke(ctx, l); err != nil {
			return fmt.Errorf("lease %x is left to expire: %w", int64(l.ID()), err)
		}
	}
	return nil
}

// leave gives up what tells other processes that this one lives: the liveness listener, and
// the lock on the lease file. A session that a Run has for itself keeps both when it ends with
// the client, until the Run gives them up: its lease lives on, and so may the work of the term.
func (s *Session) leave() {
	s.file.Close()
	s.dark()
}

// end lets nothing begin any more under the session; the error is why it had ended before.
// Called with s.mu held.
func (s *Session) end(how *ending) error {
	if s.ending != nil {
		return s.ending.cause
	}
	s.ending = how
	s.enter(StateClosed)
	return nil
}

// awaitEnd waits for another call of shutdown.
func (s *Session) awaitEnd(ctx context.Context) error {
	select {
	case <-s.closed:
	case <-ctx.Done():
		select {
		case <-s.closed:
		default:
			return fmt.Errorf("another Close is under way: %w", contextError(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == endWithClient {
		return fmt.Errorf("lease %x is left to expire: %w", int64(s.lease.ID()), ErrClientClosed)
	}
	return nil
}

// lastTryBound is how long a last attempt may take.
const lastTryBound = time.Second

// lastTry returns ctx; or, if that has ended, a context for one last attempt. The caller of a
// Close that gets no attempt would leave its locks to expire.
func lastTry(ctx context.Context) (context.Context, context.CancelFunc) {
	if lasttry.Off(ctx) {
		return ctx, func() {}
	}
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(context.WithoutCancel(ctx), lastTryBound, contextError(ctx))
}

// orphan lets nobody line up any more, fails those who wait, blocks until nothing is
// left in etcd but the keys of what is held, and in that instant marks the session as
// closed.
func (s *Session) orphan(ctx context.Context) (clientv3.LeaseID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving++
	defer func() { s.leaving-- }()
	for {
		pending := 0
		for _, l := range s.lines {
			l.failWaiters(nil, errOrphaned)
			l.tenure.giveUpKept()
			if l.tenure.unmark(errOrphaned) || !l.tenure.open() && !l.resting {
				pending++
			}
		}
		for t := range s.beside {
			if t.unmark(errOrphaned) || !t.open() {
				pending++
			}
		}
		for _, cancel := range s.asks {
			cancel(errOrphaned)
			pending++
		}
		pending += s.unsettled()
		if pending == 0 {
			var id clientv3.LeaseID
			if s.leased && s.lease.Err() == nil {
				id = s.lease.ID()
			}
			return id, s.end(endOrphaned)
		}
		changed := s.renewed.Changed()
		s.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-s.ctx.Done():
			err = s.Err()
		case <-ctx.Done():
			err = fmt.Errorf("%d releases are not confirmed yet, and the session goes on: %w", pending, contextError(ctx))
		}
		s.mu.Lock()
		if err != nil {
			return clientv3.NoLease, err
		}
	}
}
